# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clip of a shot the artist looks at; the camera that filmed it, and its movie as Blender has it."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.types import Image, Object, Scene

from ...backend.protocol import JobFolder, ProtocolError
from .. import session, takes
from ..properties import shot_settings


def job_looked_at(scene: Scene) -> JobFolder | None:
    """The job of the take that shows in the sequencer; without one, of the last clip that was made of the shot."""
    latest = session.latest_job(scene)
    code = latest.shot_code if latest else shot_settings(scene).code
    take = takes.shown_take(scene, code)
    if take is not None and takes.job_of(take).clip_mp4.is_file():
        return takes.job_of(take)
    return latest.folder if latest and latest.is_done else None


def filming_camera(job: JobFolder) -> Object:
    """The camera that filmed a job's shot. Raises ProtocolError if it is not in the file."""
    name = job.source().camera
    camera = bpy.data.objects.get(name)
    if camera is None or camera.type != "CAMERA":
        raise ProtocolError(f"The camera {name} of {job.name} is not in this file any more.")
    return camera


def load_movie(path: Path, check_existing: bool) -> Image:
    """A clip as an image of Blender's. Raises ProtocolError if Blender cannot read it."""
    image = bpy.data.images.load(str(path), check_existing=check_existing)
    if image.source != "MOVIE" or image.size[0] == 0:
        bpy.data.images.remove(image)
        raise ProtocolError(f"Blender cannot read {path}; generate the shot again.")
    return image
