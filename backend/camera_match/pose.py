# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a camera is that sees known points at known pixels, some of which are wrong."""

from __future__ import annotations

import cv2
import numpy as np

# A pose that fewer points agree on is a guess.
FEWEST_FITTING = 12
# Beyond this a point does not fit the pose.
FIT_PX = 2.0
# Points that agree within this decide it.
AGREE_PX = 1.0
REFINEMENTS = 6


def solve_pose(
    points: np.ndarray, pixels: np.ndarray, matrix: np.ndarray, guess: np.ndarray
) -> np.ndarray | None:
    """The pose that most points agree on, refined over all of them.

    Args:
        points: (N, 3) world, metres.
        pixels: (N, 2); 0 is the centre of the first pixel.
        matrix: (3, 3) camera matrix for such pixels.
        guess: (4, 4) camera to world to begin with.

    Returns:
        (4, 4) float64 camera to world, or None if there is no such pose.
    """
    pixels = pixels.astype(np.float64)
    turn, shift = _to_opencv(guess)
    solved, turn, shift, fitting = cv2.solvePnPRansac(
        points, pixels, matrix, None, turn, shift, True, 100, FIT_PX, 0.999, flags=cv2.SOLVEPNP_ITERATIVE
    )
    if not solved or fitting is None or len(fitting) < FEWEST_FITTING:
        return None
    return _refined(points, pixels, matrix, turn, shift)


def refine_pose(points: np.ndarray, pixels: np.ndarray, matrix: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """As `solve_pose`, from a guess that is nearly right."""
    return _refined(points, pixels, matrix, *_to_opencv(guess))


def _refined(
    points: np.ndarray, pixels: np.ndarray, matrix: np.ndarray, turn: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Least sum of log(1 + (error / AGREE_PX)^2): all points count, those which agree count most."""
    for _ in range(REFINEMENTS):
        where, slopes = cv2.projectPoints(points, turn, shift, matrix, None)
        error = pixels - where[:, 0]
        weights = 1 / (1 + (error**2).sum(1) / AGREE_PX**2)
        slopes = slopes[:, :6]
        weighted = (slopes * np.repeat(weights, 2)[:, None]).T
        step = np.linalg.lstsq(weighted @ slopes, weighted @ error.ravel(), rcond=None)[0]
        turn, shift = turn + step[:3, None], shift + step[3:, None]
    c2w = np.eye(4)
    c2w[:3, :3] = cv2.Rodrigues(turn)[0].T
    c2w[:3, 3] = -c2w[:3, :3] @ shift.ravel()
    return c2w


def _to_opencv(c2w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World to camera as rotation vector and shift, (3, 1) each."""
    w2c = np.linalg.inv(c2w)
    return cv2.Rodrigues(w2c[:3, :3])[0], w2c[:3, 3:].copy()
