# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot list of a scene: find, add, copy; filter and order what is shown of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bpy.types import Scene

from ..backend.protocol import ProtocolError
from . import camera
from .properties import SANAWM_PG_shot
from .shot_codes import next_code

# A copy is another shot: its code is its own.
_NOT_COPIED = {"rna_type", "jobs", "code"}


def listed(scene: Scene, code: str) -> SANAWM_PG_shot | None:
    """The shot with this code in the scene's list."""
    return next((shot for shot in scene.sana_wm_shots if shot.code == code), None)


def codes(scene: Scene) -> set[str]:
    return {shot.code for shot in scene.sana_wm_shots}


def active_index(scene: Scene) -> int:
    """Of the shot that the panels show; 0 in an empty list."""
    return max(0, min(scene.sana_wm_shot_index, len(scene.sana_wm_shots) - 1))


def activate(scene: Scene, code: str) -> None:
    """Show the shot with this code in the panels; one that is not in the list is added, like the scene's own."""
    found = (index for index, shot in enumerate(scene.sana_wm_shots) if shot.code == code)
    index = next(found, None)
    if index is None:
        add_shot(scene, code, scene.sana_wm)
    else:
        scene.sana_wm_shot_index = index


def add_shot(scene: Scene, code: str, like: SANAWM_PG_shot) -> SANAWM_PG_shot:
    """Append a shot that is set up like another one, and make it the active one."""
    settings = _settings(like)  # read before the list grows, which may move `like` in memory
    shot = scene.sana_wm_shots.add()
    for name, value in settings.items():
        setattr(shot, name, value)
    shot.code = code
    scene.sana_wm_shot_index = len(scene.sana_wm_shots) - 1
    return shot


def duplicate(scene: Scene) -> None:
    """A copy of the active shot right behind it, with the next free code, which becomes the active one."""
    index = active_index(scene)
    like = scene.sana_wm_shots[index]
    add_shot(scene, next_code(like.code, codes(scene)), like)
    scene.sana_wm_shots.move(scene.sana_wm_shot_index, index + 1)
    scene.sana_wm_shot_index = index + 1


def _settings(source: SANAWM_PG_shot) -> dict[str, Any]:
    """Everything but the code and the remembered jobs."""
    kept = (prop for prop in source.bl_rna.properties if not prop.is_readonly)
    return {p.identifier: getattr(source, p.identifier) for p in kept if p.identifier not in _NOT_COPIED}


def fix_camera(shot: SANAWM_PG_shot) -> None:
    """Give a shot of a list the camera that films it now: the scene's changes with every look at another shot."""
    scene = shot.id_data
    if shot.camera is None:
        try:
            shot.camera = camera.shot_camera(scene, None, *shot.range_of(scene))
        except ProtocolError:
            pass  # none, or several: the panel says which


def shown(shots: Iterable[SANAWM_PG_shot], text: str) -> list[bool]:
    """Which shots a search finds: by code, name or camera, in capitals or not."""
    text = text.strip().casefold()
    return [
        any(
            text in word.casefold()
            for word in (shot.code, shot.name, shot.camera.name if shot.camera else "")
        )
        for shot in shots
    ]


def places(shots: Iterable[SANAWM_PG_shot], by: str) -> list[int]:
    """For each shot its place when the list is shown by "CODE" or "START", its first frame."""
    shots = list(shots)
    keys = {"CODE": lambda i: shots[i].code, "START": lambda i: shots[i].range_of(shots[i].id_data)}
    result = [0] * len(shots)
    for place, index in enumerate(sorted(range(len(shots)), key=keys[by])):
        result[index] = place
    return result
