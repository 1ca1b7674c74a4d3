# SPDX-License-Identifier: GPL-3.0-or-later
"""Overlay, edges and wipe share a viewport: one at a time, through the shot's camera, while the clip lasts."""

from __future__ import annotations

import bpy
from bpy.types import Context, SpaceView3D

from ...backend.protocol import JobFolder
from ..clip_time import ClipTime
from . import wipe, wireframe
from .overlay import hide_overlay, shown_overlay


def leave_all(context: Context) -> None:
    """No overlay, no edges, no wipe."""
    wipe.stop()
    wireframe.switch_off(context)
    camera = shown_overlay(context.scene)
    if camera is not None:
        hide_overlay(camera)


def look_through_camera(context: Context, job: JobFolder) -> None:
    """The view through the shot's camera, at a moment that the clip shows; its camera must be in the file.

    Raises:
        ProtocolError: the job's records are missing or damaged.
    """
    scene, time = context.scene, ClipTime.of_job(job, context.scene)
    if not time.start - 0.5 <= scene.frame_current_final <= time.last + 0.5:
        scene.frame_set(round(time.start))
    scene.camera = bpy.data.objects[job.source().camera]
    if context.region_data is not None and isinstance(context.space_data, SpaceView3D):
        context.region_data.view_perspective = "CAMERA"
        context.space_data.overlay.show_overlays = True  # background images are drawn with them
