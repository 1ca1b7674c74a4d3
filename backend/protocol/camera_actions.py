# SPDX-License-Identifier: GPL-3.0-or-later
"""An action string such as "w-8,jw-8" -> CameraPath, as SANA-WM's own key controls move the camera."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from .camera_path import FPS, CameraPath
from .camera_recorded import BLENDER_FROM_OPENCV_WORLD, MAX_DURATION_S, turn_world
from .errors import ProtocolError

_SEGMENT = re.compile(r"([a-z]+)-(\d{1,9})")
PRESS_TAU_S = 0.45
COAST_TAU_S = 1.0


@dataclass(frozen=True)
class KeyMap:
    """What a key does in one frame.

    Attributes:
        keys: letter -> (axis, sign); the axes are forward, right, yaw (right) and pitch (up).
        shift_m, turn_deg: per frame.
        pitch_limit_deg: how far the camera tilts.
        smooth: speeds ease in and out, and a step beyond the pitch limit ends at it; else they switch, and
            such a step is not made.
    """

    keys: dict[str, tuple[int, int]]
    shift_m: float
    turn_deg: float
    pitch_limit_deg: float
    smooth: bool


_FORWARD, _RIGHT, _YAW, _PITCH = range(4)
_COMMON = {"w": (_FORWARD, 1), "s": (_FORWARD, -1), "i": (_PITCH, 1), "k": (_PITCH, -1)}
CURRENT_KEYS = KeyMap(
    _COMMON | {"d": (_YAW, 1), "a": (_YAW, -1), "l": (_RIGHT, 1), "j": (_RIGHT, -1)},
    shift_m=0.025,
    turn_deg=0.6,
    pitch_limit_deg=60.0,
    smooth=True,
)
# The first release: a and d strafe, j and l turn, twice as fast.
OLD_KEYS = KeyMap(
    _COMMON | {"d": (_RIGHT, 1), "a": (_RIGHT, -1), "l": (_YAW, 1), "j": (_YAW, -1)},
    shift_m=0.05,
    turn_deg=1.2,
    pitch_limit_deg=85.0,
    smooth=False,
)


def action_path(
    text: str,
    intrinsics: tuple[float, float, float, float],
    image_size: tuple[int, int],
    key_map: KeyMap = CURRENT_KEYS,
) -> CameraPath:
    """Follow an action string from the origin, looking along +y, level.

    Args:
        text: "keys-frames" separated by commas; keys are any of w a s d i j k l, or "none".
        intrinsics: fx, fy, cx, cy in pixels of `image_size` (width, height).
        key_map: CURRENT_KEYS or OLD_KEYS.

    Returns:
        One pose more than there are frames in the string, the first of them before any key.

    Raises:
        ProtocolError: a part is not of this form, names another key, or all are too long together.
    """
    pose, pitch, velocity = np.eye(4), 0.0, np.zeros(4)
    poses, held_before = [pose], set()
    limit = math.radians(key_map.pitch_limit_deg)
    for held in _frames(text, key_map):
        velocity = _velocity(key_map, held, held_before, velocity)
        held_before = held
        forward, right, yaw, step = velocity
        if key_map.smooth:
            step = min(max(pitch + step, -limit), limit) - pitch
        elif abs(pitch + step) > limit:
            step = 0.0
        pitch += step
        # In an OpenCV world, where y points down: yaw about the world's y, pitch about the camera's x.
        rotation = _about_y(yaw) @ pose[:3, :3] @ _about_x(step)
        position = pose[:3, 3] + _level(rotation[:, 2]) * forward + _level(rotation[:, 0]) * right
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, position
        poses.append(pose)
    c2w = turn_world(BLENDER_FROM_OPENCV_WORLD, np.array(poses))
    return CameraPath(c2w, np.tile(np.array(intrinsics, dtype=np.float64), (len(c2w), 1)), image_size)


def _frames(text: str, key_map: KeyMap) -> list[set[str]]:
    """The keys held in each frame."""
    frames: list[set[str]] = []
    for part in text.lower().split(","):
        match = _SEGMENT.fullmatch(part.strip())
        if not match or int(match[2]) == 0:
            raise ProtocolError(
                f"{part.strip()!r} is no action; write keys, a hyphen and a number of frames, such as w-8 or none-8."
            )
        held = set() if match[1] == "none" else set(match[1])
        unknown = sorted(held - key_map.keys.keys())
        if unknown:
            raise ProtocolError(
                f"{part.strip()!r} holds {', '.join(unknown)}, which is not among the keys w a s d i j k l and none."
            )
        if len(frames) + int(match[2]) > MAX_DURATION_S * FPS:
            raise ProtocolError(f"The actions take longer than {MAX_DURATION_S:g} s; shorten them.")
        frames += [held] * int(match[2])
    return frames


def _velocity(key_map: KeyMap, held: set[str], before: set[str], velocity: np.ndarray) -> np.ndarray:
    """(4,) metres and radians per frame: forward, right, yaw, pitch."""
    target = np.zeros(4)
    for key in held:
        axis, sign = key_map.keys[key]
        target[axis] += sign
    turn = math.radians(key_map.turn_deg)
    target *= [key_map.shift_m, key_map.shift_m, turn, turn]
    if not key_map.smooth or held - before:
        return target  # a key newly pressed takes effect at once
    tau_s = np.where(target != 0, PRESS_TAU_S, COAST_TAU_S)
    return velocity + (1 - np.exp(-1 / FPS / tau_s)) * (target - velocity)


def _level(direction: np.ndarray) -> np.ndarray:
    """The direction in the ground's plane, of length 1; the pitch limit keeps it from vanishing."""
    level = direction * [1, 0, 1]
    return level / np.linalg.norm(level)


def _about_x(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _about_y(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
