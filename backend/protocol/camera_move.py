# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera moves as a film crew names them: the entries of presets/camera_moves, and the poses they lead to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import atomic
from .records import from_record


@dataclass(frozen=True)
class CameraMove:
    """One move. Amounts are those of the whole move at strength 1.

    Attributes:
        name, description: shown to the user.
        shift_m: to the right, up and forward; up is the world's, the others lie in the horizontal plane.
        pan_deg, tilt_deg: turn on the spot, to the right and up.
        orbit_deg: way around the subject, to the right.
        keeps_target: turn so that the subject stays where it is in the picture.
        lens_factor: by which the focal length grows.
        shake_deg, shake_m: reach of an unsteady hand.
    """

    name: str
    description: str
    shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pan_deg: float = 0.0
    tilt_deg: float = 0.0
    orbit_deg: float = 0.0
    keeps_target: bool = False
    lens_factor: float = 1.0
    shake_deg: float = 0.0
    shake_m: float = 0.0

    @property
    def is_straight(self) -> bool:
        """Whether every value changes evenly from its first to its last."""
        return not (self.orbit_deg or self.keeps_target)

    @classmethod
    def load(cls, path: Path) -> CameraMove:
        """Read a preset; ProtocolError if it is damaged."""
        return from_record(cls, atomic.read_json(path), f"The camera move {path.stem}")

    def pose(self, start: np.ndarray, amount: float, target_m: float) -> np.ndarray:
        """The camera after `amount` of the move, without the unsteady hand.

        Args:
            start: (4, 4) camera to world where the move begins; OpenCV axes, a world with z up, metres.
            amount: 0 at the beginning, 1 after the whole move; below 0 the other way.
            target_m: distance of the subject, straight ahead of the start.

        Returns:
            (4, 4) float64, as `start`.
        """
        right = np.array([start[0, 0], start[1, 0], 0.0])
        right /= max(np.linalg.norm(right), 1e-9)  # rolled onto its side, it has none
        forward = np.array([-right[1], right[0], 0.0])
        origin = start[:3, 3]
        target = origin + start[:3, 2] * target_m
        place = origin + amount * (np.array(self.shift_m) @ [right, (0, 0, 1), forward])
        pan, tilt = math.radians(self.pan_deg) * amount, math.radians(self.tilt_deg) * amount
        if self.keeps_target:
            before, after = target - origin, target - place
            pan -= math.atan2(after[1], after[0]) - math.atan2(before[1], before[0])
            tilt += _elevation(after) - _elevation(before)
        turn = _about_z(-pan) @ start[:3, :3] @ _about_x(tilt)
        if self.orbit_deg:
            around = _about_z(math.radians(self.orbit_deg) * amount)
            place, turn = target + around @ (place - target), around @ turn
        moved = np.eye(4)
        moved[:3, :3], moved[:3, 3] = turn, place
        return moved


def list_camera_moves(folder: Path) -> dict[str, CameraMove]:
    """The moves in a folder of presets, by file stem."""
    return {path.stem: CameraMove.load(path) for path in sorted(folder.glob("*.json"))}


def _elevation(direction: np.ndarray) -> float:
    return math.atan2(direction[2], math.hypot(direction[0], direction[1]))


def _about_z(angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _about_x(angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
