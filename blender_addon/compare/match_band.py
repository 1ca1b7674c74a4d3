# SPDX-License-Identifier: GPL-3.0-or-later
"""A band over every take in the sequencer, coloured second by second; above it one number's curve over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import gpu
import numpy as np
from bpy.types import Scene
from gpu_extras.batch import batch_for_shader

from ...backend.protocol import CameraMatch, camera_match
from .. import compat, takes, verdicts
from ..timeline import scene_fps

# In parts of a channel's height: the band lies at the strip's lower edge, the curve above it.
BAND = (0.06, 0.18)
CURVE = (0.24, 0.86)
MUTED_ALPHA = 0.3
# Where good ends, for the numbers that have one limit for every clip.
THRESHOLDS = {
    "heading_deg": camera_match.HEADING_DEG[0],
    "slide_px": camera_match.SLIDE_PX[0],
    "kept": camera_match.KEPT_LEAST,
    "sharpness": 1 - camera_match.SOFTER[0],
}

_handle: object | None = None


@dataclass(frozen=True)
class Span:
    """A piece of the band: from scene frame to scene frame, on a channel."""

    start: float
    end: float
    channel: int
    colour: tuple[float, ...]


def spans(scene: Scene, strip: Any, match: CameraMatch) -> list[Span]:
    """The band over the visible part of a take; whole grey where nothing was measured.

    A trimmed strip keeps its content in place, and so does the band.
    """
    first, after = compat.strip_extent(strip)
    start, fps = compat.strip_content_start(strip), scene_fps(scene)
    alpha = MUTED_ALPHA if strip.mute else 1.0
    grades = match.per_second()
    if not grades:
        return [Span(first, after, strip.channel, (*verdicts.COLOURS["unmeasured"][:3], alpha))]
    found = []
    for second, grade in enumerate(grades):
        left, right = start + second * fps, start + min(second + 1, match.duration_s) * fps
        left, right = max(left, first), min(right, after)
        if left < right:
            found.append(Span(left, right, strip.channel, (*verdicts.COLOURS[grade][:3], alpha)))
    return found


def curve(scene: Scene, strip: Any, match: CameraMatch, number: str) -> tuple[np.ndarray, float | None]:
    """A number's line over the visible part of a take, in scene frames and channels; nan where it is not known.

    Returns:
        (N, 2) points, and the height of the threshold if the number has one.
    """
    values = np.array([np.nan if value is None else value for value in getattr(match, number)], float)
    threshold = THRESHOLDS.get(number)
    known = values[np.isfinite(values)]
    top = max([1e-6, *([] if threshold is None else [1.25 * threshold]), *known])
    first, after = compat.strip_extent(strip)
    frames = compat.strip_content_start(strip) + np.arange(len(values)) * scene_fps(scene) / camera_match.FPS
    low, high = (strip.channel + part for part in CURVE)
    inside = (frames >= first) & (frames < after)
    points = np.stack([frames, low + (high - low) * values / top], 1)[inside]
    return points, None if threshold is None else low + (high - low) * threshold / top


def is_shown() -> bool:
    return _handle is not None


def show() -> None:
    """Draw the bands from now on."""
    global _handle
    if _handle is None:
        _handle = bpy.types.SpaceSequenceEditor.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")


def hide() -> None:
    global _handle
    if _handle is not None:
        bpy.types.SpaceSequenceEditor.draw_handler_remove(_handle, "WINDOW")
        _handle = None


def _draw() -> None:
    context = bpy.context
    region, scene = context.region, compat.sequencer_scene(context)
    settings = context.window_manager.sana_wm_view
    if not settings.shows_band or scene.sequence_editor is None or context.space_data.view_type == "PREVIEW":
        return
    if region.type != "WINDOW":
        return
    gpu.state.blend_set("ALPHA")
    for strip in compat.strips(scene.sequence_editor):
        match = verdicts.match_of(takes.job_of(strip)) if takes.is_take(strip) else None
        if match is None:
            continue
        for span in spans(scene, strip, match):
            _fill(region, span)
        if settings.curve != "NONE" and not match.unmeasured:
            points, threshold = curve(scene, strip, match, settings.curve)
            _line(region, points, (1.0, 1.0, 1.0, 0.9))
            if threshold is not None and len(points):
                edge = np.array([[points[0, 0], threshold], [points[-1, 0], threshold]])
                _line(region, edge, verdicts.COLOURS["look"])
    gpu.state.blend_set("NONE")


def _fill(region: bpy.types.Region, span: Span) -> None:
    low, high = (span.channel + part for part in BAND)
    to_region = region.view2d.view_to_region
    left, bottom = to_region(span.start, low, clip=False)
    right, top = to_region(span.end, high, clip=False)
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    shader.uniform_float("color", span.colour)
    batch_for_shader(shader, "TRIS", {"pos": corners}, indices=[(0, 1, 2), (0, 2, 3)]).draw(shader)


def _line(region: bpy.types.Region, points: np.ndarray, colour: tuple[float, ...]) -> None:
    known = np.isfinite(points).all(1)
    pairs = [
        region.view2d.view_to_region(*points[index], clip=False)
        for start in np.flatnonzero(known[:-1] & known[1:])
        for index in (start, start + 1)
    ]
    if pairs:
        shader = gpu.shader.from_builtin("UNIFORM_COLOR")
        shader.uniform_float("color", colour)
        batch_for_shader(shader, "LINES", {"pos": np.array(pairs, np.float32)}).draw(shader)


def register() -> None:
    if not bpy.app.background:
        show()


def unregister() -> None:
    hide()
