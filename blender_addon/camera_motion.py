# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys that move a camera: are they all that moves it, what do they say, and the same move slower or smaller."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bpy.types import FCurve, Object

from ..backend.protocol import ProtocolError
from . import compat

TRANSFORMS = ("location", "rotation_euler", "rotation_quaternion", "rotation_axis_angle")
# A rig is looked at so deep; deeper ones exist, and a check of theirs may be out of date without a word.
_MAX_SOURCES = 32


def refuse_unfree(camera: Object) -> None:
    """Moves of ours are keyed in the world's space, so nothing else may move the camera.

    Raises:
        ProtocolError: a parent or a constraint does.
    """
    holders = [constraint.name for constraint in camera.constraints if not constraint.mute]
    if camera.parent is not None:
        holders.append(camera.parent.name)
    if holders:
        raise ProtocolError(
            f"The camera {camera.name} is moved by {', '.join(holders)}; take it off its parents and "
            "constraints (keeping its place), or animate these."
        )


def refuse_unkeyed(camera: Object) -> None:
    """What changes keys changes the move only where the camera has its own, and nothing else moves it.

    Raises:
        ProtocolError: it has none, or a parent, constraint, driver or NLA strip moves it.
    """
    refuse_unfree(camera)
    animation = camera.animation_data
    if animation is not None and (
        animation.drivers or any(not t.mute and t.strips for t in animation.nla_tracks)
    ):
        raise ProtocolError(
            f"The camera {camera.name} is moved by drivers or NLA strips; bake it to keys first (Object > Animation)."
        )
    if not any(curve.data_path in TRANSFORMS for curve in compat.fcurves(camera)):
        raise ProtocolError(f"The camera {camera.name} has no keys of its own; there is no move to change.")


def state(camera: Object) -> int:
    """A number that changes when somebody changes the camera's move or lens, and not by playing it."""
    said: list[bytes] = []
    for owner in _sources(camera):
        curves = compat.fcurves(owner)
        said.append(f"{owner.name} {[(curve.data_path, curve.array_index) for curve in curves]}".encode())
        for curve in curves:
            for name, width in (("co", 2), ("handle_left", 2), ("handle_right", 2)):
                values = np.empty(width * len(curve.keyframe_points), np.float32)
                curve.keyframe_points.foreach_get(name, values)
                said.append(values.tobytes())
        if not curves and isinstance(owner, Object):
            said.append(np.array(owner.matrix_basis, np.float32).tobytes())
        if isinstance(owner, Object):
            said.append(repr([(c.name, c.mute, round(c.influence, 4)) for c in owner.constraints]).encode())
        elif not curves:
            said.append(
                repr((owner.type, owner.lens, owner.shift_x, owner.shift_y, owner.sensor_width)).encode()
            )
    return zlib.crc32(b"".join(said))


def slow_down(camera: Object, start: float, end: float, factor: float) -> None:
    """Stretch the move between two scene frames; what is keyed behind it comes as much later."""
    longer = (end - start) * (factor - 1)

    def later(frames: np.ndarray) -> np.ndarray:
        inside = start + (frames - start) * factor
        return np.where(frames < start, frames, np.where(frames > end, frames + longer, inside))

    for curve in (*compat.fcurves(camera), *compat.fcurves(camera.data)):
        _cut_at(curve, start, end)
        _map(curve, 0, later)
        for modifier in curve.modifiers:
            _stretch_modifier(modifier, later, factor)
        curve.update()


def scale(camera: Object, start: float, end: float, factor: float) -> None:
    """Shrink or grow the path between two scene frames about its first place; turns and lens stay."""
    for curve in compat.fcurves(camera):
        if curve.data_path != "location":
            continue
        pivot = curve.evaluate(start)
        _cut_at(curve, start, end)
        _map(curve, 1, lambda values, pivot=pivot: pivot + (values - pivot) * factor, (start, end))
        for modifier in curve.modifiers:
            if modifier.type == "NOISE":
                modifier.strength *= factor
        curve.update()


def _sources(camera: Object) -> Iterator[Any]:
    """The camera, its lens, and what moves it: parents, targets of constraints, and theirs."""
    yield camera.data
    waiting, seen = [camera], set()
    while waiting and len(seen) < _MAX_SOURCES:
        owner = waiting.pop()
        if owner.name in seen:
            continue
        seen.add(owner.name)
        yield owner
        waiting += [owner.parent] if owner.parent else []
        waiting += [c.target for c in owner.constraints if getattr(c, "target", None) is not None]


def _cut_at(curve: FCurve, start: float, end: float) -> None:
    """Keys at both ends where a curve goes on beyond them, so that a change inside ends there. The curve stays."""
    frames = [point.co.x for point in curve.keyframe_points]
    if not frames or (min(frames) >= start and max(frames) <= end):
        return
    for frame in (start, end):
        if min(frames) < frame < max(frames) and min(abs(f - frame) for f in frames) > 1e-3:
            curve.keyframe_points.insert(frame, curve.evaluate(frame))
    for point in curve.keyframe_points:
        # Blender would smooth automatic handles anew, over what does not change.
        point.handle_left_type = point.handle_right_type = "FREE"


def _map(
    curve: FCurve,
    axis: int,
    change: Callable[[np.ndarray], np.ndarray],
    between: tuple[float, float] = (-math.inf, math.inf),
) -> None:
    """Change frames (axis 0) or values (axis 1) of keys and handles, of the keys between two frames."""
    points = curve.keyframe_points
    table = {name: np.empty(2 * len(points), np.float32) for name in ("co", "handle_left", "handle_right")}
    for name, flat in table.items():
        points.foreach_get(name, flat)
    frames = table["co"].reshape(-1, 2)[:, 0].astype(np.float64)
    chosen = (frames > between[0] - 1e-3) & (frames < between[1] + 1e-3)
    for name, flat in table.items():
        pairs = flat.reshape(-1, 2)
        pairs[chosen, axis] = change(pairs[chosen, axis].astype(np.float64))
        points.foreach_set(name, flat)


def _stretch_modifier(modifier: Any, later: Callable[[np.ndarray], np.ndarray], factor: float) -> None:
    if modifier.type == "NOISE":
        modifier.scale *= factor
    if modifier.use_restricted_range:
        modifier.frame_end = float(later(np.array(modifier.frame_end)))
        modifier.frame_start = float(later(np.array(modifier.frame_start)))
        modifier.blend_in, modifier.blend_out = modifier.blend_in * factor, modifier.blend_out * factor
