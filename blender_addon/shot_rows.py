# SPDX-License-Identifier: GPL-3.0-or-later
"""The list's entries as rows of a file and back: what to make, and what became of it."""

from __future__ import annotations

import time

import bpy

from ..backend.protocol import CameraMatch, JobFolder, JobState
from ..backend.protocol.shot_list import ShotRow
from . import session, shots, takes, verdicts
from .properties import SANAWM_PG_shot, presets

_BLENDER_INT_MAX = 2**31 - 1


def row_of(settings: SANAWM_PG_shot) -> ShotRow:
    """A shot with its outcome; the range is given in frames even where it is the scene's.

    Raises:
        ProtocolError: the shot's code or range cannot stand in a file.
    """
    scene = settings.id_data
    start, end = settings.range_of(scene)
    job, made = session.supervisor.latest(scene.session_uid, settings.code), clip_of(settings)
    match = _match(settings)
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


def clip_of(settings: SANAWM_PG_shot) -> JobFolder | None:
    """The job that made the take picked in the sequencer; without a take there, the shot's last clip."""
    scene = settings.id_data
    take = takes.shown_take(scene, settings.code)
    if take is not None:
        return takes.job_of(take)
    job = session.supervisor.last_done(scene.session_uid, settings.code)
    return job.folder if job else None


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
    if row.seed is not None:
        settings.seed = min(row.seed, _BLENDER_INT_MAX)
        if row.seed > _BLENDER_INT_MAX:
            missing.append(
                f"{row.code}: Blender's seeds end at {_BLENDER_INT_MAX}, so {row.seed} became that."
            )
    if row.takes is not None:
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


def length_in_words(settings: SANAWM_PG_shot) -> str:
    """The shot's scene frames: 1-121."""
    return "{}-{}".format(*settings.range_of(settings.id_data))


def status_of(settings: SANAWM_PG_shot) -> tuple[str, str]:
    """A word and an icon for a shot's last job: its share while it runs, such as 42 %; both empty once it is done."""
    job = session.supervisor.latest(settings.id_data.session_uid, settings.code)
    if job is None or (job.is_done and not job.trouble):
        return "", ""
    if job.trouble:
        return "trouble", "ERROR"
    if job.record.state == JobState.RUNNING:
        return f"{job.fraction(time.time()):.0%}".replace("%", " %"), "SORTTIME"
    return str(job.record.state), _ICONS[job.record.state]


def match_icon(settings: SANAWM_PG_shot) -> str:
    """For the picked take, or the last clip; empty if there is none."""
    clip = clip_of(settings)
    if clip is None:
        return ""
    match = verdicts.match_of(clip)
    return verdicts.ICONS[match.verdict()] if match else "SEQUENCE"


def match_in_words(settings: SANAWM_PG_shot) -> str:
    """A sentence about the picked take, or the last clip; empty if there is none."""
    match = _match(settings)
    return match.in_words() if match else ""


def _match(settings: SANAWM_PG_shot) -> CameraMatch | None:
    clip = clip_of(settings)
    return verdicts.match_of(clip) if clip else None


_ICONS = {
    JobState.QUEUED: "TIME",
    JobState.LOADING: "SORTTIME",
    JobState.FAILED: "ERROR",
    JobState.CANCELLED: "X",
}
