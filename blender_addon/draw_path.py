# SPDX-License-Identifier: GPL-3.0-or-later
"""Coloured camera paths in the 3D viewport, kept under a name until they are cleared or another file is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import bpy
import gpu
import numpy as np
from bpy.app.handlers import persistent
from gpu_extras.batch import batch_for_shader

THIN_PX, THICK_PX = 1.0, 3.0
# A camera mark is this share of the path's extent across, and at least this many metres.
MARK_SHARE, MARK_LEAST_M = 0.03, 0.05
_CORNERS = np.array([[-1, -0.55, -1], [1, -0.55, -1], [1, 0.55, -1], [-1, 0.55, -1]])


@dataclass(frozen=True, eq=False)
class Lines:
    """Separate segments: points (2 N, 3) in Blender's units, their colours (2 N, 4), and the width."""

    points: np.ndarray
    colours: np.ndarray
    width_px: float = THICK_PX


_shown: dict[str, tuple[Lines, Callable[[], bool]]] = {}
_handle: object | None = None


def camera_lines(
    poses: np.ndarray, colours: np.ndarray, marks: np.ndarray, width_px: float = THICK_PX
) -> Lines:
    """A line through the camera's places, with a small camera at some of them.

    Args:
        poses: (F, 4, 4) in Blender's axes and units; nan breaks the line.
        colours: (F, 4); a segment goes from the colour of its start to that of its end.
        marks: indices of the poses that get a camera.
    """
    places = poses[:, :3, 3]
    known = np.isfinite(poses).all((1, 2))
    starts = np.flatnonzero(known[:-1] & known[1:])
    pairs = np.stack([starts, starts + 1], 1).ravel()
    points, shades = [places[pairs]], [colours[pairs]]
    if known.any():
        extent = np.linalg.norm(np.ptp(places[known], axis=0))
        size = max(MARK_SHARE * extent, MARK_LEAST_M)
        for index in marks:
            if known[index]:
                corners = _CORNERS * size @ poses[index, :3, :3].T + places[index]
                ring = np.stack([corners, np.roll(corners, -1, 0)], 1)
                spokes = np.stack([np.broadcast_to(places[index], corners.shape), corners], 1)
                points.append(np.concatenate([ring, spokes]).reshape(-1, 3))
                shades.append(np.broadcast_to(colours[index], (16, 4)))
    return Lines(
        np.concatenate(points).astype(np.float32), np.concatenate(shades).astype(np.float32), width_px
    )


def show(name: str, lines: Lines, holds: Callable[[], bool] = lambda: True) -> None:
    """Draw these lines under a name, in place of those it had.

    Args:
        holds: asked with every redraw whether the lines are still true; while they are not, they stay away.
    """
    global _handle
    _shown[name] = lines, holds
    if _handle is None:
        _handle = bpy.types.SpaceView3D.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")
    _redraw()


def hide(name: str) -> None:
    """Stop drawing what has this name, if anything has."""
    global _handle
    _shown.pop(name, None)
    if not _shown and _handle is not None:
        bpy.types.SpaceView3D.draw_handler_remove(_handle, "WINDOW")
        _handle = None
    _redraw()


def is_shown(name: str) -> bool:
    return name in _shown


def true_lines() -> list[Lines]:
    """What is to be drawn now."""
    return [lines for lines, holds in _shown.values() if holds()]


def _draw() -> None:
    """In every view but a camera's, where the marks of its own path would stand in the picture."""
    if bpy.context.region_data.view_perspective == "CAMERA":
        return
    shader = gpu.shader.from_builtin("POLYLINE_SMOOTH_COLOR")
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    gpu.state.blend_set("ALPHA")
    gpu.state.depth_test_set("LESS_EQUAL")
    for lines in true_lines():
        shader.uniform_float("lineWidth", lines.width_px)
        batch_for_shader(shader, "LINES", {"pos": lines.points, "color": lines.colours}).draw(shader)
    gpu.state.depth_test_set("NONE")
    gpu.state.blend_set("NONE")


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


@persistent
def _forget(_path: str) -> None:
    for name in tuple(_shown):
        hide(name)


def register() -> None:
    bpy.app.handlers.load_pre.append(_forget)


def unregister() -> None:
    _forget("")
    bpy.app.handlers.load_pre.remove(_forget)
