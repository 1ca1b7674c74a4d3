# SPDX-License-Identifier: GPL-3.0-or-later
"""The clip over the blockout in the viewport: a background image of the shot's camera, true in time and in place."""

from __future__ import annotations

import math
from pathlib import Path

import bpy
from bpy.types import Camera, CameraBackgroundImage, Scene

from ...backend.protocol import JobFolder
from ..clip_time import ClipTime
from .looked_at import filming_camera, load_movie

_MARK = "sana_wm_overlay"
ALPHA = 0.5


def overlay_of(camera: Camera) -> CameraBackgroundImage | None:
    """The camera's overlay, shown or hidden."""
    return next((b for b in camera.background_images if b.image is not None and _MARK in b.image), None)


def shown_overlay(scene: Scene) -> Camera | None:
    """The camera in the scene whose overlay is shown, if there is one."""
    for object_ in scene.objects:
        if object_.type == "CAMERA" and object_.data.show_background_images:
            background = overlay_of(object_.data)
            if background is not None and background.show_background_image:
                return object_.data
    return None


def show_overlay(scene: Scene, job: JobFolder) -> CameraBackgroundImage:
    """Lay a finished job's clip in front of what its camera sees; another take's overlay gives way.

    The clip is cut from the middle of the camera's picture, and so FIT brings the two together.

    Raises:
        ProtocolError: the job has no clip, Blender cannot read it, or its camera is not in the file.
    """
    return lay_over(job, job.clip_mp4, ClipTime.of_job(job, scene))


def lay_over(job: JobFolder, movie: Path, time: ClipTime) -> CameraBackgroundImage:
    """Show a movie in front of what the job's camera sees; its opacity stays as the artist has set it.

    Raises:
        ProtocolError: Blender cannot read the movie, or the camera is not in the file.
    """
    camera = filming_camera(job).data
    background = overlay_of(camera)
    if background is None:
        background = camera.background_images.new()
        background.alpha = ALPHA
    before, background.image = background.image, load_movie(movie, check_existing=True)
    background.image[_MARK] = True
    if before is not None and before != background.image and not before.users:
        bpy.data.images.remove(before)
    background.source = "IMAGE"
    background.display_depth, background.frame_method = "FRONT", "FIT"
    background.show_background_image = camera.show_background_images = True
    _keep_time(camera, background, time)
    return background


def hide_overlay(camera: Camera) -> None:
    """Take the overlay out of sight; its opacity is kept."""
    background = overlay_of(camera)
    if background is not None:
        background.show_background_image = False


def _keep_time(camera: Camera, background: CameraBackgroundImage, time: ClipTime) -> None:
    """Blender shows one clip frame a scene frame; a driver sets off what that is wrong by."""
    first, length = round(time.start), (time.count - 1) / time.scale
    user = background.image_user
    user.frame_start, user.use_auto_refresh, user.use_cyclic = first, True, False
    # In scene frames: Blender keeps to them before it adds the offset.
    user.frame_duration = frames = math.ceil(length) + 1
    index = camera.background_images[:].index(background)
    driver = camera.driver_add(f"background_images[{index}].image_user.frame_offset").driver
    driver.type = "SCRIPTED"
    # The nearest clip frame, as in the sequencer. So simple an expression runs in files that are not trusted.
    driver.expression = (
        f"int(min(max(frame-{time.start:.6g},0),{length:.6g})*{time.scale:.9g}+0.5)"
        f"-int(min(max(frame-{first},0),{frames - 1}))"
    )
