# SPDX-License-Identifier: GPL-3.0-or-later
"""The blockout's edges over the whole clip, in one viewport; its shading and the overlay's opacity come back."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
from bpy.app.handlers import persistent
from bpy.types import Context, SpaceView3D

from ...backend.protocol import JobFolder
from .overlay import hide_overlay, overlay_of, show_overlay, shown_overlay


@dataclass(frozen=True)
class _Before:
    """How it was without edges; the viewport by its address, which lasts as long as its file is open."""

    viewport: int
    shading: str
    show_xray_wireframe: bool
    alpha: float


_before: _Before | None = None


def is_on(context: Context) -> bool:
    """Whether the viewport of a context shows the edges."""
    space = context.space_data
    return _before is not None and space is not None and space.as_pointer() == _before.viewport


def switch_on(context: Context, job: JobFolder) -> None:
    """Lay the clip behind the blockout and show of that the edges only. Raises ProtocolError like `show_overlay`."""
    global _before
    background, space = show_overlay(context.scene, job), context.space_data
    shading = space.shading
    _before = _Before(space.as_pointer(), shading.type, shading.show_xray_wireframe, background.alpha)
    background.display_depth, background.alpha = "BACK", 1.0
    # Without x-ray the surfaces between the edges would hide the clip.
    shading.type, shading.show_xray_wireframe = "WIREFRAME", True


def switch_off(context: Context) -> None:
    """The shading of before, and no clip; nothing happens if no viewport shows edges."""
    global _before
    if _before is None:
        return
    before, _before = _before, None
    space = next((space for space in _viewports() if space.as_pointer() == before.viewport), None)
    if space is not None:
        space.shading.type = before.shading
        space.shading.show_xray_wireframe = before.show_xray_wireframe
    camera = shown_overlay(context.scene)
    if camera is not None:
        background = overlay_of(camera)
        background.display_depth, background.alpha = "FRONT", before.alpha
        hide_overlay(camera)


def _viewports() -> list[SpaceView3D]:
    areas = (area for screen in bpy.data.screens for area in screen.areas)
    return [space for area in areas for space in area.spaces if isinstance(space, SpaceView3D)]


@persistent
def _forget(_path: str) -> None:
    global _before
    _before = None


def register() -> None:
    bpy.app.handlers.load_pre.append(_forget)


def unregister() -> None:
    bpy.app.handlers.load_pre.remove(_forget)
