# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes: clips of one shot that lie over each other in the sequencer. One is picked, the rest are muted."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.types import Scene

from ..backend.protocol import JobFolder, ProtocolError, Shot
from . import compat, shot_list
from .properties import presets, shot_settings

_MARK = "sana_wm"


def is_take(strip: Any) -> bool:
    """Whether a strip is a clip that was placed here."""
    return strip is not None and strip.type == "MOVIE" and _MARK in strip


def job_of(strip: Any) -> JobFolder:
    """The job that made a take; its folder may be gone."""
    return JobFolder(bpy.path.abspath(strip[_MARK]["job"]))


def takes_of(scene: Scene, shot_code: str) -> list[Any]:
    """All takes of a shot, the lowest channel first."""
    strips = (s for s in compat.strips(scene.sequence_editor) if is_take(s) and s[_MARK]["shot"] == shot_code)
    return sorted(strips, key=lambda strip: strip.channel)


def all_takes(scene: Scene) -> list[Any]:
    """Every take in a scene's sequencer, in the order of time and then of channels."""
    editor = scene.sequence_editor
    strips = [strip for strip in compat.strips(editor) if is_take(strip)] if editor else []
    return sorted(strips, key=lambda strip: (compat.strip_extent(strip)[0], strip.channel))


def shown_take(scene: Scene, shot_code: str) -> Any | None:
    """The take of a shot that shows: the highest one that is not muted."""
    if scene.sequence_editor is None:
        return None
    return next((take for take in reversed(takes_of(scene, shot_code)) if not take.mute), None)


def pick(scene: Scene, strip: Any) -> None:
    """Show this take of its shot and no other."""
    for take in takes_of(scene, strip[_MARK]["shot"]):
        for part in (take, *_effects_on(scene, take)):
            part.mute = take != strip


def remove(scene: Scene, strip: Any) -> None:
    """Take a take out of the sequencer, with its speed effect; its job folder stays."""
    strips = compat.strips(scene.sequence_editor)
    for part in (*_effects_on(scene, strip), strip):
        strips.remove(part)


def settings_again(scene: Scene, strip: Any) -> list[str]:
    """Set the take's shot up as it was, in the list if the scene has one; it becomes the one in the panels.

    Returns:
        What could not be set again, a sentence each.

    Raises:
        ProtocolError: the take's job folder is gone or damaged.
    """
    shot, missing = _shot_of(strip), []
    if scene.sana_wm_shots:
        shot_list.activate(scene, shot.code)
    settings = shot_settings(scene)
    settings.code, settings.seed = shot.code, min(shot.seed, 2**31 - 1)
    settings.prompt, settings.prompt_text = shot.prompt, None
    settings.negative_prompt = shot.negative_prompt
    settings.range_source = "CUSTOM"
    settings.frame_start, settings.frame_end = round(shot.source.frame_start), round(shot.source.frame_end)
    camera = bpy.data.objects.get(shot.source.camera)
    if camera is not None and camera.type == "CAMERA":
        settings.camera = camera
    else:
        missing.append(f"Its camera {shot.source.camera} is not in this file any more.")
    stem = next((stem for stem, preset in presets().items() if preset.name == shot.preset.name), None)
    if stem is not None:
        settings.preset = stem
    else:
        missing.append(f"Its preset {shot.preset.name} is not part of this version.")
    return missing


def go_on_from(scene: Scene, strip: Any) -> None:
    """The next clip begins with the last frame of this take.

    Raises:
        ProtocolError: the take's last frame is not in its job folder any more.
    """
    last_frame = job_of(strip).preview / "latest.png"
    if not last_frame.is_file():
        raise ProtocolError(f"{strip.name} has lost its last frame: there is no {last_frame}.")
    settings = shot_settings(scene)
    settings.first_frame_source, settings.first_frame_path = "IMAGE", str(last_frame)


def _shot_of(strip: Any) -> Shot:
    job = job_of(strip)
    if not job.path.is_dir():
        raise ProtocolError(f"The job folder of {strip.name} is gone: {job.path}.")
    return job.shot()


def _effects_on(scene: Scene, strip: Any) -> list[Any]:
    """The effect strips above a take that show nothing without it."""
    strips = compat.strips(scene.sequence_editor)
    return [s for s in strips if getattr(s, "input_count", 0) == 1 and s.input_1 == strip]
