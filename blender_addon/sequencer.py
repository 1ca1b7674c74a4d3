# SPDX-License-Identifier: GPL-3.0-or-later
"""Clip -> strip, true in time in a scene of any frame rate.

The movie strip shows one clip frame per scene frame, whatever the scene's rate; the speed effect above it
puts that right. Blender's own import operator does it without the effect, but needs a sequencer on the
screen, and in a 25 fps scene of Blender 5.0 it shows every third frame a frame early.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import bpy
from bpy.types import Scene

from ..backend.protocol import FPS, Clip, JobFolder, ProtocolError, Source
from . import compat
from .clip_time import ClipTime
from .timeline import scene_fps

MAX_CHANNEL = 128


def place_clip(scene: Scene, job: JobFolder) -> Any:
    """Place a finished job's clip where its shot was filmed; the caller pushes the undo step.

    The clip takes two free channels above every strip of its time, so that the latest take of a shot lies on
    top and is the one that shows. It never reaches past the shot's range. The scene's rate, range, colour
    management and selection stay as they are.

    Returns:
        The movie strip, named like the job; its custom property `sana_wm` says what it is.

    Raises:
        ProtocolError: the job has no clip, or Blender cannot read it; nothing is placed.
    """
    if not job.clip_mp4.is_file():
        raise ProtocolError(f"{job.name} has no clip; generate the shot again.")
    clip, shot = job.clip(), job.shot()
    start, end = clip_extent(clip, shot.source, scene_fps(scene))
    editor = scene.sequence_editor or scene.sequence_editor_create()
    channel = _free_channel(editor, start, end)
    if channel + 1 > MAX_CHANNEL:
        raise ProtocolError(f"The sequencer has no free channel for {job.name}; remove old takes.")
    strips, active = compat.strips(editor), editor.active_strip
    movie = strips.new_movie(
        name=job.name, filepath=_stored(job.clip_mp4), channel=channel, frame_start=start, fit_method="FIT"
    )
    try:
        if not movie.elements or movie.elements[0].orig_width == 0:
            raise ProtocolError(f"Blender cannot read {job.clip_mp4}; generate the shot again.")
        compat.set_strip_end(movie, end)
        speed = compat.new_speed_effect(editor, f"{job.name} speed", channel + 1, movie)
    except BaseException:
        strips.remove(movie)
        raise
    speed.speed_control = "MULTIPLY"
    speed.speed_factor = FPS / scene_fps(scene)
    movie["sana_wm"] = {
        "shot": shot.code,
        "take": job.take,
        "seed": str(shot.seed),  # Blender's integers end at 2**31 - 1
        "job": _stored(job.path),
        "ai_generated": True,
    }
    movie.select = speed.select = False  # Blender selects what it makes
    editor.active_strip = active
    compat.show_in_sequencer(scene)
    return movie


def clip_extent(clip: Clip, source: Source, fps: float) -> tuple[int, int]:
    """First scene frame of a clip and the first frame after it, in a scene of `fps` frames per second.

    Delivered frame 0 shows camera sample `pose_offset`; the strip begins on the whole frame nearest to it.
    """
    time = ClipTime.of(source, clip.pose_offset, clip.frame_count, fps)
    clip_end = time.scene_frame(clip.frame_count / FPS)
    shot_end = source.frame_start + (source.frame_end - source.frame_start + 1) / source.scene_fps * fps
    first = round(time.start)
    # A hair above, so that the rounding of 23.976 does not cost a frame.
    return first, max(first + 1, math.floor(min(clip_end, shot_end) + 1e-3))


def _stored(path: Path) -> str:
    """As Blender keeps paths: relative to the saved .blend unless the user prefers otherwise."""
    if not (bpy.data.filepath and bpy.context.preferences.filepaths.use_relative_paths):
        return str(path)
    try:
        return bpy.path.relpath(str(path))
    except ValueError:  # another drive
        return str(path)


def _free_channel(editor: Any, start: int, end: int) -> int:
    """The lowest channel with nothing in it or above it between the scene frames `start` and `end`."""
    extents = ((strip.channel, *compat.strip_extent(strip)) for strip in compat.strips(editor))
    return 1 + max((ch for ch, first, after in extents if first < end and after > start), default=0)
