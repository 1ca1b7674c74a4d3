# SPDX-License-Identifier: GPL-3.0-or-later
"""The list's entries as rows of a file and back: what to make, and what became of it."""

from __future__ import annotations

from collections.abc import Collection

import bpy
from bpy.types import Scene

from ..backend.protocol.camera_path import FPS
from ..backend.protocol.shot_list import ShotRow
from . import session, shots, takes, verdicts
from .followed_job import FollowedJob
from .properties import SANAWM_PG_shot, presets

_BLENDER_INT_MAX = 2**31 - 1
_NOT_COPIED = {"rna_type", "jobs"}


def row_of(settings: SANAWM_PG_shot) -> ShotRow:
    """A shot with its outcome; the range is given in frames even where it is the scene's.

    Raises:
        ProtocolError: the shot's code or range cannot stand in a file.
    """
    scene = settings.id_data
    start, end = settings.range_of(scene)
    job, take = session.supervisor.latest(scene.session_uid, settings.code), None
    if scene.sequence_editor is not None:
        take = takes.shown_take(scene, settings.code)
    made = takes.job_of(take) if take is not None else job.folder if job and job.is_done else None
    match = verdicts.match_of(made) if made else None
    return ShotRow(
        code=settings.code,
        name=settings.name,
        camera=settings.camera.name if settings.camera else "",
        frame_start=start,
        frame_end=end,
        prompt=settings.prompt_in_full(),
        negative_prompt=settings.negative_prompt.strip(),
        first_frame=shots.chosen_first_frame(settings),
        preset=settings.preset,
        seed=settings.seed,
        takes=settings.takes,
        status=job.record.state if job else "",
        take=made.take if made else 0,
        clip=str(made.clip_mp4) if made else "",
        match=match.in_words() if match else "",
    )


def take_over(settings: SANAWM_PG_shot, row: ShotRow) -> list[str]:
    """Set a shot up as a row says; what the row leaves empty stays as it is.

    Returns:
        What could not be set, a sentence each.
    """
    missing = []
    settings.code = row.code
    for name in ("name", "prompt", "negative_prompt"):
        if getattr(row, name):
            setattr(settings, name, getattr(row, name))
    if row.prompt and settings.prompt_text is not None and settings.prompt_in_full() != row.prompt:
        settings.prompt_text = None
    if row.frame_start is not None:
        settings.range_source = "CUSTOM"
        settings.frame_start, settings.frame_end = row.frame_start, row.frame_end
    if row.first_frame:
        settings.first_frame_source, settings.first_frame_path = "IMAGE", row.first_frame
    if row.seed:
        settings.seed = min(row.seed, _BLENDER_INT_MAX)
    if row.takes != 1:
        settings.takes = row.takes
    if row.camera:
        camera = bpy.data.objects.get(row.camera)
        if camera is not None and camera.type == "CAMERA":
            settings.camera = camera
        else:
            missing.append(f"{row.code}: there is no camera {row.camera} in this file.")
    if row.preset:
        if row.preset in presets():
            settings.preset = row.preset
        else:
            missing.append(f"{row.code}: there is no preset {row.preset}; there are {', '.join(presets())}.")
    return missing


def listed(scene: Scene, code: str) -> SANAWM_PG_shot | None:
    """The shot with this code in the scene's list."""
    return next((shot for shot in scene.sana_wm_shots if shot.code == code), None)


def add_shot(scene: Scene, code: str, like: SANAWM_PG_shot | None = None) -> SANAWM_PG_shot:
    """Append a shot to the list and make it the active one; what is not said is as in `like`."""
    shot = scene.sana_wm_shots.add()
    if like is not None:
        copy_settings(like, shot)
    shot.code = code
    scene.sana_wm_shot_index = len(scene.sana_wm_shots) - 1
    return shot


def copy_settings(source: SANAWM_PG_shot, target: SANAWM_PG_shot) -> None:
    for prop in source.bl_rna.properties:
        if prop.identifier not in _NOT_COPIED and not prop.is_readonly:
            setattr(target, prop.identifier, getattr(source, prop.identifier))


def next_code(code: str, taken: Collection[str]) -> str:
    """The code after this one: 010_0020 after 010_0010, until one is free; shot_2 after shot."""
    digits = len(code) - len(code.rstrip("0123456789"))
    number, width = int(code[-digits:]) if digits else 1, digits
    stem = code[: len(code) - digits] if digits else f"{code}_"
    step = 10 if digits > 1 and number % 10 == 0 else 1
    while True:
        number += step
        candidate = f"{stem}{number:0{width}d}"
        if candidate not in taken:
            return candidate


def length_in_words(settings: SANAWM_PG_shot) -> str:
    """The shot's scene frames: 1-121."""
    return "{}-{}".format(*settings.range_of(settings.id_data))


def status_of(settings: SANAWM_PG_shot) -> tuple[str, str]:
    """A word and an icon for the state of a shot's last job."""
    job = session.supervisor.latest(settings.id_data.session_uid, settings.code)
    if job is None:
        return "", "BLANK1"
    if job.trouble:
        return "trouble", "ERROR"
    if job.frames_in_all and job.is_active:
        return f"{job.frames_made / FPS:.0f} s made", "SORTTIME"
    return _STATES[job.record.state]


def match_icon(job: FollowedJob | None) -> str:
    match = verdicts.match_of(job.folder) if job and job.is_done else None
    return verdicts.ICONS[match.verdict()] if match else "BLANK1"


_STATES = {
    "queued": ("queued", "TIME"),
    "loading": ("loading", "SORTTIME"),
    "running": ("running", "SORTTIME"),
    "done": ("done", "SEQUENCE"),
    "failed": ("failed", "ERROR"),
    "cancelled": ("cancelled", "X"),
}
