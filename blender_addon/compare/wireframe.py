# SPDX-License-Identifier: GPL-3.0-or-later
"""The blockout's edges over the whole clip, in one viewport; the shading it had comes back afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from bpy.types import Context, SpaceView3D

from ...backend.protocol import JobFolder
from .overlay import ALPHA, hide_overlay, overlay_of, show_overlay, shown_overlay


@dataclass(frozen=True)
class _Shading:
    type: str
    show_xray_wireframe: bool


# Viewports by their address, as long as they show edges.
_before: dict[int, _Shading] = {}


def is_on(context: Context) -> bool:
    space = context.space_data
    return isinstance(space, SpaceView3D) and space.as_pointer() in _before


def switch_on(context: Context, job: JobFolder) -> None:
    """Lay the clip behind the blockout and show of that the edges only. Raises ProtocolError like `show_overlay`."""
    background = show_overlay(context.scene, job)
    background.display_depth, background.alpha = "BACK", 1.0
    shading = context.space_data.shading
    _before[context.space_data.as_pointer()] = _Shading(shading.type, shading.show_xray_wireframe)
    shading.type, shading.show_xray_wireframe = "WIREFRAME", True
    look_through_camera(context)


def switch_off(context: Context) -> None:
    """The shading of before, and no clip."""
    before = _before.pop(context.space_data.as_pointer())
    context.space_data.shading.type = before.type
    context.space_data.shading.show_xray_wireframe = before.show_xray_wireframe
    camera = shown_overlay(context.scene)
    if camera is not None:
        background = overlay_of(camera)
        background.display_depth, background.alpha = "FRONT", ALPHA
        hide_overlay(camera)


def look_through_camera(context: Context) -> None:
    """Background images are drawn in camera view only, and with the viewport's overlays."""
    if context.region_data is not None and isinstance(context.space_data, SpaceView3D):
        context.region_data.view_perspective = "CAMERA"
        context.space_data.overlay.show_overlays = True
