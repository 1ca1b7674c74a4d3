# SPDX-License-Identifier: GPL-3.0-or-later
"""A band over every take in the sequencer, coloured second by second; above it one number's curve over time.

Everything here is in the sequencer's own units: scene frames across, channels up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import bpy
import gpu
import numpy as np
from bpy.types import Scene
from gpu_extras.batch import batch_for_shader

from ...backend.protocol import CameraMatch, camera_match
from .. import compat, takes, verdicts
from ..clip_records import seconds_of
from ..timeline import scene_fps

# In parts of a channel's height: the band lies at the strip's lower edge, the curve above it.
BAND = (0.06, 0.2)
CURVE = (0.26, 0.72)
MUTED_ALPHA = 0.3
CURVE_PX, LIMIT_PX = 2.0, 1.0
_CURVE_COLOUR = (1.0, 1.0, 1.0, 0.9)

_handle: object | None = None


@dataclass(frozen=True)
class Span:
    """A piece of the band: from scene frame to scene frame, on a channel."""

    start: float
    end: float
    channel: int
    colour: tuple[float, ...]


def spans(scene: Scene, strip: Any, grades: Sequence[camera_match.Verdict], duration_s: float) -> list[Span]:
    """The band over the visible part of a take; whole grey where nothing was measured.

    A trimmed strip keeps its content in place, and so does the band.

    Args:
        grades: of every second of the clip.
        duration_s: of the clip, whose last second may be shorter.
    """
    first, after = compat.strip_extent(strip)
    start, fps = compat.strip_content_start(strip), scene_fps(scene)
    if not grades:
        return [Span(first, after, strip.channel, dimmed(verdicts.COLOURS["unmeasured"], strip))]
    found = []
    for grade, group in groupby(range(len(grades)), key=grades.__getitem__):
        seconds = list(group)
        left, right = start + seconds[0] * fps, start + min(seconds[-1] + 1, duration_s) * fps
        left, right = max(left, first), min(right, after)
        if left < right:
            found.append(Span(left, right, strip.channel, dimmed(verdicts.COLOURS[grade], strip)))
    return found


def dimmed(colour: tuple[float, ...], strip: Any) -> tuple[float, ...]:
    """A colour as it is drawn on this take: faint on a muted one."""
    return (*colour[:3], colour[3] * (MUTED_ALPHA if strip.mute else 1.0))


def scale(match: CameraMatch, number: str) -> tuple[float, float]:
    """The value at the top of a number's curve, and where good ends."""
    good_until = {
        "heading_deg": camera_match.HEADING_DEG[0],
        # What is too small to be told is good.
        "position_scaled_m": max(camera_match.POSITION_OF_PATH[0] * match.path_length_m, match.resolution_m),
        "slide_px": camera_match.SLIDE_PX[0],
        "kept": camera_match.KEPT_LEAST,
        "sharpness": 1 - camera_match.SOFTER[0],
    }[number]
    known = [value for value in getattr(match, number) if value is not None]
    return max(1e-6, 1.25 * good_until, *known), good_until


def curve(scene: Scene, strip: Any, match: CameraMatch, number: str) -> tuple[np.ndarray, float]:
    """A number's line over the visible part of a take; nan where it is not known.

    Returns:
        (N, 2) points, and the height at which good ends.
    """
    values = np.array([np.nan if value is None else value for value in getattr(match, number)], float)
    top, good_until = scale(match, number)
    first, after = compat.strip_extent(strip)
    frames = compat.strip_content_start(strip) + np.arange(len(values)) * scene_fps(scene) / camera_match.FPS
    low, high = (strip.channel + part for part in CURVE)
    inside = (frames >= first) & (frames < after)
    points = np.stack([frames, low + (high - low) * values / top], 1)[inside]
    return points, low + (high - low) * good_until / top


def is_shown() -> bool:
    return _handle is not None


def show() -> None:
    """Draw the bands from now on."""
    global _handle
    if _handle is None:
        _handle = bpy.types.SpaceSequenceEditor.draw_handler_add(_draw, (), "WINDOW", "POST_VIEW")


def hide() -> None:
    global _handle
    if _handle is not None:
        bpy.types.SpaceSequenceEditor.draw_handler_remove(_handle, "WINDOW")
        _handle = None


def _draw() -> None:
    context = bpy.context
    scene, settings = compat.sequencer_scene(context), context.window_manager.sana_wm_view
    is_timeline = context.region.type == "WINDOW" and context.space_data.view_type != "PREVIEW"
    if not is_timeline or scene is None or scene.sequence_editor is None:
        return
    gpu.state.blend_set("ALPHA")
    for strip in compat.shown_strips(scene.sequence_editor):
        job = takes.job_of(strip) if takes.is_take(strip) else None
        match = verdicts.match_of(job) if job else None
        if match is None:
            continue
        if settings.shows_band:
            _fill(spans(scene, strip, seconds_of(job), match.duration_s))
        if settings.curve != "NONE" and not match.unmeasured:
            points, limit = curve(scene, strip, match, settings.curve)
            _line(points, dimmed(_CURVE_COLOUR, strip), CURVE_PX)
            ends = points[[0, -1], 0] if len(points) else ()
            _line(
                np.array([(frame, limit) for frame in ends]),
                dimmed(verdicts.COLOURS["look"], strip),
                LIMIT_PX,
            )
    gpu.state.blend_set("NONE")


def _fill(band: Sequence[Span]) -> None:
    corners, colours, triangles = [], [], []
    for index, span in enumerate(band):
        low, high = (span.channel + part for part in BAND)
        corners += [(span.start, low, 0), (span.end, low, 0), (span.end, high, 0), (span.start, high, 0)]
        colours += [span.colour] * 4
        triangles += [(4 * index, 4 * index + 1, 4 * index + 2), (4 * index, 4 * index + 2, 4 * index + 3)]
    shader = gpu.shader.from_builtin("FLAT_COLOR")
    batch_for_shader(shader, "TRIS", {"pos": corners, "color": colours}, indices=triangles).draw(shader)


def _line(points: np.ndarray, colour: tuple[float, ...], width_px: float) -> None:
    known = np.isfinite(points).all(-1)
    starts = np.flatnonzero(known[:-1] & known[1:])
    if not len(starts):
        return
    pairs = points[np.stack([starts, starts + 1], 1).ravel()]
    shader = gpu.shader.from_builtin("POLYLINE_UNIFORM_COLOR")
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", width_px)
    shader.uniform_float("color", colour)
    flat = np.column_stack([pairs, np.zeros(len(pairs))]).astype(np.float32)
    batch_for_shader(shader, "LINES", {"pos": flat}).draw(shader)


def register() -> None:
    if not bpy.app.background:
        show()


def unregister() -> None:
    hide()
