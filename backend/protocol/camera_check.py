# SPDX-License-Identifier: GPL-3.0-or-later
"""A planned camera path sample by sample, against what the model follows gently."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import limits
from .camera_match import SEVERITY, Judged, Verdict
from .camera_path import FPS, CameraPath

DISTANCE, SPEED, TURN, ROLL, LENS, CUTS = (
    "Distance",
    "Top speed",
    "Fastest turn",
    "Roll",
    "Field of view",
    "Cuts",
)
# A hand may lean so far. The released model's keys never roll, so beyond that nothing is known.
LEVEL_WITHIN_DEG = 5.0
# Closer than this to straight up or down, pan and roll are one.
_STEEP_COSINE = 0.02


@dataclass(frozen=True, eq=False)
class CameraCheck:
    """What a camera does, at every sample.

    Attributes:
        speed_m_s, turn_deg_s: (F,) of the faster of the two steps beside the sample; across a cut there is none.
        roll_deg: (F,) lean to the right; nan where the camera looks straight up or down.
        fov_deg: (F,) horizontal field of view of the picture that the model sees.
        cuts: samples that a jump leads to.
        distance_m: length of the path without its jumps.
    """

    speed_m_s: np.ndarray
    turn_deg_s: np.ndarray
    roll_deg: np.ndarray
    fov_deg: np.ndarray
    cuts: list[int]
    distance_m: float

    @classmethod
    def of(cls, camera: CameraPath, image_size: tuple[int, int]) -> CameraCheck:
        """Measure a path.

        Args:
            image_size: (width, height) of the clip, to whose shape the camera's picture is cut.
        """
        cuts = limits.cut_samples(camera)
        speed, turn = limits.speed_m_s(camera), limits.turn_rate_deg_s(camera)
        for steps in (speed, turn):
            steps[[cut - 1 for cut in cuts]] = 0.0
        fov = limits.field_of_view_deg(camera.fitted_to(image_size))[:, 0]
        return cls(
            _of_samples(speed), _of_samples(turn), roll_deg(camera), fov, cuts, float(speed.sum() / FPS)
        )

    @property
    def needed_scale(self) -> float:
        """The share of its size at which the path has the gentle speed; 1 if it has it already."""
        return min(1.0, float(limits.GENTLE_SPEED_M_S / max(self.speed_m_s.max(), 1e-9)))

    @property
    def needed_slowdown(self) -> float:
        """How many times longer the move must take to be gentle; 1 if it is."""
        return max(1.0 / self.needed_scale, float(self.turn_deg_s.max() / limits.GENTLE_TURN_DEG_S))

    def verdicts(self) -> list[Verdict]:
        """For each sample the worst of speed, turn, roll and field of view; a sample behind a cut is bad."""
        grades = np.max(
            [
                _pace_grades(self.speed_m_s / limits.GENTLE_SPEED_M_S),
                _pace_grades(self.turn_deg_s / limits.GENTLE_TURN_DEG_S),
                _roll_grades(self.roll_deg),
                _fov_grades(self.fov_deg),
            ],
            axis=0,
        )
        grades[self.cuts] = SEVERITY.index("bad")
        return [SEVERITY[grade] for grade in grades]

    def judged(self) -> list[Judged]:
        """Every measure in words, with a verdict and the moment of its worst value."""
        return [
            Judged(DISTANCE, f"{self.distance_m:.2f} m", "good"),
            _pace(SPEED, self.speed_m_s, limits.GENTLE_SPEED_M_S, "{:.2f} m/s"),
            _pace(TURN, self.turn_deg_s, limits.GENTLE_TURN_DEG_S, "{:.1f}°/s"),
            self._judged_roll(),
            self._judged_fov(),
            self._judged_cuts(),
        ]

    def _judged_roll(self) -> Judged:
        known = np.nan_to_num(self.roll_deg)
        at, grade = int(np.argmax(np.abs(known))), int(_roll_grades(self.roll_deg).max())
        if np.abs(known).max() < 0.5:
            return Judged(ROLL, "level", "good")
        words = f"up to {abs(known[at]):.0f}° to the {'right' if known[at] > 0 else 'left'}"
        return Judged(ROLL, words, SEVERITY[grade], None if SEVERITY[grade] == "good" else at / FPS)

    def _judged_fov(self) -> Judged:
        grades, words = _fov_grades(self.fov_deg), _range(self.fov_deg, "{:.0f}°")
        if SEVERITY[grades.max()] == "good":
            return Judged(LENS, words, "good")
        low, high = limits.FOV_RANGE_DEG
        return Judged(LENS, f"{words}, not {low:.0f}° to {high:.0f}°", "bad", int(np.argmax(grades)) / FPS)

    def _judged_cuts(self) -> Judged:
        if not self.cuts:
            return Judged(CUTS, "none", "good")
        return Judged(CUTS, f"{len(self.cuts)}", "bad", self.cuts[0] / FPS)


def roll_deg(camera: CameraPath) -> np.ndarray:
    """(F,) how far the camera leans to its right, in degrees; nan where it looks straight up or down."""
    right, forward = camera.c2w[:, :3, 0], camera.c2w[:, :3, 2]
    level = np.cross(forward, [0.0, 0.0, 1.0])
    length = np.linalg.norm(level, axis=1)
    level /= np.maximum(length, 1e-12)[:, None]
    down = -np.cross(level, forward)
    lean = np.degrees(np.arctan2((right * down).sum(1), (right * level).sum(1)))
    return np.where(length < _STEEP_COSINE, np.nan, lean)


def _of_samples(steps: np.ndarray) -> np.ndarray:
    """(F - 1,) between samples -> (F,) at them: the faster of both sides."""
    padded = np.concatenate([[0.0], steps, [0.0]])
    return np.maximum(padded[:-1], padded[1:])


_GOOD, _LOOK, _BAD = map(SEVERITY.index, ("good", "look", "bad"))


def _pace_grades(of_gentle: np.ndarray) -> np.ndarray:
    """Indices into SEVERITY for rates that are so many times the gentle one."""
    edges = (limits.RATE_TOLERANCE, limits.RATE_TOLERANCE * limits.FAST_FACTOR)
    return np.select([of_gentle > edges[1], of_gentle > edges[0]], [_BAD, _LOOK], _GOOD)


def _roll_grades(roll: np.ndarray) -> np.ndarray:
    return np.where(np.abs(np.nan_to_num(roll)) > LEVEL_WITHIN_DEG, _LOOK, _GOOD)


def _fov_grades(fov: np.ndarray) -> np.ndarray:
    return np.where(limits.is_filmable_fov(fov), _GOOD, _BAD)


def _pace(name: str, rates: np.ndarray, gentle: float, unit: str) -> Judged:
    at = int(np.argmax(rates))
    grade = int(_pace_grades(rates / gentle).max())
    words = unit.format(rates[at])
    if grade == _GOOD:
        return Judged(name, words, "good")
    pace = "fast" if grade == _LOOK else "too fast"
    return Judged(name, f"{words}, {pace}: gentle is {unit.format(gentle)}", SEVERITY[grade], at / FPS)


def _range(values: np.ndarray, form: str) -> str:
    low, high = form.format(values.min()), form.format(values.max())
    return low if low == high else f"{low} to {high}"
