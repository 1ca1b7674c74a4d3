# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera that was measured beside the planned one: first how late it is, then how far it moves, then the rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..protocol import FPS
from .motion import angles_between, poses_at, steps

# Motion is compared over a quarter of a second, which is long enough to stand out of the noise.
SPAN = 4
LATEST_S, EARLIEST_S = 1.5, -1.0
STEPS_PER_FRAME = 4
# With another lag than none, this share of the unexplained motion may be left.
LAG_GAIN = 0.5
# In pixels of the tracked picture: a camera that moves or turns it less than this has no scale and no lag.
LEAST_MOTION_PX = 8.0
# Noise that a step over SPAN frames is never better than.
STEP_NOISE_PX = 0.05


@dataclass(frozen=True, eq=False)
class Comparison:
    """What CameraMatch says of the path; curves (F,) are nan where tracking was lost.

    Attributes:
        planned: (F, 4, 4), the planned camera of every delivered frame with the lag taken out.
    """

    lag_s: float | None
    path_scale: float | None
    turn_scale: float | None
    path_length_m: float
    planned: np.ndarray
    heading_deg: np.ndarray
    position_m: np.ndarray
    position_scaled_m: np.ndarray


def compare(
    estimated: np.ndarray, path: np.ndarray, pose_offset: int, focal_px: float, depth_m: float
) -> Comparison:
    """Compare (F, 4, 4) measured poses, nan where lost, with the planned path (S, 4, 4).

    Args:
        pose_offset: frame i should show sample i + pose_offset.
        focal_px, depth_m: of the tracked picture, and of what it shows typically; they tell what motion is visible.
    """
    frames = np.arange(len(estimated))
    asked = poses_at(path, frames + pose_offset)
    px_per_m = focal_px / depth_m
    moves, turns = _visible_motion(asked, px_per_m, focal_px)
    seen = estimated[np.isfinite(estimated[:, 0, 0])]
    can_be_late = (moves or turns) and any(_visible_motion(seen, px_per_m, focal_px))
    lag = _lag_frames(estimated, path, pose_offset, px_per_m, focal_px) if can_be_late else None
    planned = poses_at(path, frames + pose_offset - (lag or 0))
    path_scale, turn_scale = _scales(estimated, planned)
    path_scale, turn_scale = path_scale if moves else None, turn_scale if turns else None
    start = planned[0, :3, 3]
    scaled = start + (1.0 if path_scale is None else path_scale) * (planned[:, :3, 3] - start)
    return Comparison(
        lag_s=None if lag is None else lag / FPS,
        path_scale=path_scale,
        turn_scale=turn_scale,
        path_length_m=float(np.linalg.norm(np.diff(asked[:, :3, 3], axis=0), axis=1).sum()),
        planned=planned,
        heading_deg=np.degrees(angles_between(estimated[:, :3, :3], planned[:, :3, :3])),
        position_m=np.linalg.norm(estimated[:, :3, 3] - planned[:, :3, 3], axis=1),
        position_scaled_m=np.linalg.norm(estimated[:, :3, 3] - scaled, axis=1),
    )


def _visible_motion(c2w: np.ndarray, px_per_m: float, focal_px: float) -> tuple[bool, bool]:
    """Whether a camera moves, and turns, enough to be seen."""
    away_m = np.linalg.norm(c2w[:, :3, 3] - c2w[0, :3, 3], axis=1).max()
    turned = angles_between(c2w[:, :3, :3], np.broadcast_to(c2w[0, :3, :3], (len(c2w), 3, 3))).max()
    return bool(away_m * px_per_m > LEAST_MOTION_PX), bool(turned * focal_px > LEAST_MOTION_PX)


def _lag_frames(
    estimated: np.ndarray, path: np.ndarray, pose_offset: int, px_per_m: float, focal_px: float
) -> float:
    """The delay at which the planned motion, each kind at a scale of its own, explains the measured motion best."""
    span = min(SPAN, len(estimated) - 1)
    seen_moves, seen_turns = steps(estimated[:-span], estimated[span:])
    seen = np.hstack([seen_moves * px_per_m, seen_turns * focal_px])
    starts = np.arange(len(seen))
    usable = np.isfinite(seen).all(1)
    lags = np.arange(EARLIEST_S * FPS, LATEST_S * FPS + 1e-9, 1 / STEPS_PER_FRAME)
    costs = np.full(len(lags), np.inf)
    for index, lag in enumerate(lags):
        times = starts + pose_offset - lag
        # A clip that is early ends beyond the plan; what it shows there cannot be compared.
        known = usable & (times + span <= len(path) - 1)
        if known.sum() < 0.5 * usable.sum() or known.sum() < 2:
            continue
        moves, turns = steps(poses_at(path, times[known]), poses_at(path, times[known] + span))
        asked = np.hstack([moves * px_per_m, turns * focal_px])
        rest = 0.0
        for part in (slice(0, 3), slice(3, 6)):
            # Without their means: a steady drift has no time, so it says nothing about the lag.
            here, there = (motion[:, part] - motion[:, part].mean(0) for motion in (seen[known], asked))
            rest += ((here - _gain(here, there) * there) ** 2).sum()
        costs[index] = rest / known.sum() + STEP_NOISE_PX**2
    none = int(np.argmin(np.abs(lags)))
    best = int(np.argmin(costs))
    if not costs[best] < LAG_GAIN * costs[none]:
        return 0.0
    return float(lags[best] + _vertex(costs, best) / STEPS_PER_FRAME)


def _vertex(costs: np.ndarray, best: int) -> float:
    """Where a parabola through the best cost and its neighbours is lowest, in steps from the best."""
    if not 0 < best < len(costs) - 1:
        return 0.0
    left, middle, right = costs[best - 1 : best + 2]
    bend = left - 2 * middle + right
    return float(0.5 * (left - right) / bend) if np.isfinite(bend) and bend > 0 else 0.0


def _scales(estimated: np.ndarray, planned: np.ndarray) -> tuple[float, float]:
    """Share of the planned moves, and of the planned turns, that is seen.

    Steps are compared in the camera's own axes, so that a heading that drifts does not look like a wrong scale.
    """
    span = min(2 * SPAN, len(estimated) - 1)
    seen, asked = (steps(c2w[:-span], c2w[span:]) for c2w in (estimated, planned))
    return _gain(seen[0], asked[0]), _gain(seen[1], asked[1])


def _gain(seen: np.ndarray, asked: np.ndarray) -> float:
    """Least squares factor from (N, 3) asked to seen, over what was seen; 0 at least."""
    known = np.isfinite(seen).all(1)
    power = (asked[known] ** 2).sum()
    return float(max((seen[known] * asked[known]).sum() / power, 0)) if power > 0 else 0.0
