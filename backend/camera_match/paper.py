# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers that papers give, so that ours can stand beside theirs.

Rotation, place and scale of the whole measured path are fitted to the planned one first, as the evaluation of SANA-WM
does. So a clip that moves too slowly everywhere scores as well as a perfect one; `path_scale` of the match tells them
apart. Places alone do not tell how a straight path is turned about itself; its rotation is fitted to the headings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..protocol import ProtocolError
from .motion import angles_between

# A path is straight if it varies across its direction by less than this share of the variance along it.
STRAIGHT = 0.01


@dataclass(frozen=True)
class PaperErrors:
    """Errors behind the fit; lengths in metres of the planned path.

    Attributes:
        frames, lost: how many were compared, and how many were left out because tracking was lost.
        scale: that the measured path was multiplied by.
        rot_err_deg: mean angle between the rotations (RotErr).
        trans_err_m: mean distance between the camera centres (TransErr).
        cam_mc: mean norm of the difference of the 3 x 4 camera to world matrices (CamMC).
        ate_m: root mean square distance between the camera centres (ATE).
        rpe_m, rpe_deg: root mean square error of the motion from frame to frame (RPE).
    """

    frames: int
    lost: int
    scale: float
    rot_err_deg: float
    trans_err_m: float
    cam_mc: float
    ate_m: float
    rpe_m: float
    rpe_deg: float


def paper_errors(estimated: np.ndarray, planned: np.ndarray) -> PaperErrors:
    """Compare (F, 4, 4) measured camera to world, nan where lost, with the planned (F, 4, 4).

    Raises:
        ProtocolError: fewer than three frames were measured, or the measured camera stands still: a fit needs a path.
    """
    known = np.isfinite(estimated).all((1, 2))
    estimated, planned = estimated[known], planned[known]
    if len(estimated) < 3 or np.ptp(estimated[:, :3, 3], axis=0).max() < 1e-9:
        raise ProtocolError(
            "The clip's camera does not move, so that no path can be fitted to the planned one."
        )
    scale, rotation, shift = _fit(estimated, planned)
    fitted = estimated.copy()
    fitted[:, :3, :3] = rotation @ estimated[:, :3, :3]
    fitted[:, :3, 3] = scale * estimated[:, :3, 3] @ rotation.T + shift
    distance_m = np.linalg.norm(fitted[:, :3, 3] - planned[:, :3, 3], axis=1)
    apart = fitted[:, :3] - planned[:, :3]
    step_m, step_rad = _step_errors(fitted, planned)
    return PaperErrors(
        frames=len(estimated),
        lost=int((~known).sum()),
        scale=scale,
        rot_err_deg=float(np.degrees(angles_between(fitted[:, :3, :3], planned[:, :3, :3])).mean()),
        trans_err_m=float(distance_m.mean()),
        cam_mc=float(np.linalg.norm(apart, axis=(1, 2)).mean()),
        ate_m=_root_mean_square(distance_m),
        rpe_m=_root_mean_square(step_m),
        rpe_deg=_root_mean_square(np.degrees(step_rad)),
    )


def _fit(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation (3, 3) and shift (3,) that carry the places of (N, 4, 4) poses onto others with least squares."""
    places, onto = source[:, :3, 3], target[:, :3, 3]
    spread, wanted = places - places.mean(0), onto - onto.mean(0)
    variances = np.linalg.svd(spread, compute_uv=False) ** 2
    if variances[1] < STRAIGHT * variances[0]:
        rotation = _nearest_rotation(np.einsum("nij,nkj->ik", target[:, :3, :3], source[:, :3, :3]))
    else:
        rotation = _nearest_rotation(wanted.T @ spread)
    scale = float((wanted * (spread @ rotation.T)).sum() / (spread**2).sum())
    return scale, rotation, onto.mean(0) - scale * rotation @ places.mean(0)


def _nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """A rotation, even where a reflection would be nearer to the (3, 3) matrix."""
    left, _, right = np.linalg.svd(matrix)
    return left * [1, 1, np.sign(np.linalg.det(left) * np.linalg.det(right))] @ right


def _step_errors(fitted: np.ndarray, planned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F - 1,) metres and radians by which the motion from frame to frame differs."""
    seen, asked = (np.linalg.inv(c2w[:-1]) @ c2w[1:] for c2w in (fitted, planned))
    error = np.linalg.inv(asked) @ seen
    turns = angles_between(asked[:, :3, :3], seen[:, :3, :3])
    return np.linalg.norm(error[:, :3, 3], axis=1), turns


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
