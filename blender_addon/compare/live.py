# SPDX-License-Identifier: GPL-3.0-or-later
"""The clip while it is being made: its last frame as a picture for the panel, and the growing overlay."""

from __future__ import annotations

import shutil
from pathlib import Path

import bpy
import bpy.utils.previews
from bpy.types import Scene

from ...backend.protocol import ProtocolError
from .. import session
from ..clip_time import ClipTime
from ..followed_job import FollowedJob
from ..timeline import scene_fps
from .overlay import lay_over, show_overlay, shown_overlay

_previews: bpy.utils.previews.ImagePreviewCollection | None = None
# What the overlay was last brought to: the job and how many frames of it.
_overlaid: tuple[str, int] = ("", 0)
# What the picture in the panel shows: the same.
_pictured: tuple[str, int] = ("", 0)


def latest_frame_icon(job: FollowedJob) -> int:
    """The icon of the newest frame of a growing clip, read again when there are more; 0 if there is none."""
    global _pictured
    picture, now = job.folder.preview / "latest.png", (job.name, job.frames_made)
    if _previews is None or not job.growing_clip or not picture.is_file():
        return 0
    if _pictured != now:
        _previews.clear()
        _pictured = now
    key = f"{job.name} {job.frames_made}"
    return (_previews.get(key) or _previews.load(key, str(picture), "IMAGE")).icon_id


def follow(scene: Scene) -> None:
    """Bring the overlay up to what is there: more of the growing clip, or the finished one. Called by the timer."""
    global _overlaid
    if not bpy.context.window_manager.sana_wm_view.is_live:
        return
    job = session.latest_job(scene)
    if job is None:
        return
    try:
        if job.growing_clip and _overlaid != (job.name, job.frames_made):
            _show_growing(scene, job)
            _overlaid = (job.name, job.frames_made)
        elif job.is_done and _overlaid[0] == job.name and _overlaid[1] >= 0:
            _overlaid = (job.name, -1)
            if shown_overlay(scene) is not None:
                show_overlay(scene, job.folder)
    except (ProtocolError, RuntimeError, OSError):
        return  # half a second later there is more to see


def _show_growing(scene: Scene, job: FollowedJob) -> None:
    # Blender keeps the file open; a copy leaves the worker's own alone, on Windows as well.
    copy = Path(bpy.app.tempdir) / f"{job.name}-{job.frames_made}.mp4"
    shutil.copyfile(job.growing_clip, copy)
    offset = job.folder.shot_preset().pose_offset
    time = ClipTime.of(job.folder.source(), offset, job.frames_made, scene_fps(scene))
    lay_over(job.folder, copy, time)


def register() -> None:
    global _previews
    _previews = bpy.utils.previews.new()
    session.followers.append(follow)


def unregister() -> None:
    global _previews, _overlaid, _pictured
    session.followers.remove(follow)
    bpy.utils.previews.remove(_previews)
    _previews, _overlaid, _pictured = None, ("", 0), ("", 0)
