# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers that papers give, beside those of evo."""

import cv2
import numpy as np
import pytest
from evo.core import metrics
from evo.core.trajectory import PosePath3D

from backend.camera_match import paper_errors
from backend.protocol import ProtocolError


def wandering(rng: np.random.Generator, frames: int) -> np.ndarray:
    """(F, 4, 4): a smooth path that goes and turns everywhere."""
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, :3, 3] = np.cumsum(rng.normal(size=(frames, 3)), axis=0)
    for pose, turn in zip(c2w, np.cumsum(rng.normal(size=(frames, 3)) * 0.05, axis=0), strict=True):
        pose[:3, :3] = cv2.Rodrigues(turn)[0]
    return c2w


def disturbed(rng: np.random.Generator, c2w: np.ndarray, scale: float) -> np.ndarray:
    """The path seen from elsewhere, at another scale, with noise."""
    world = cv2.Rodrigues(rng.normal(size=3))[0]
    seen = c2w.copy()
    for pose in seen:
        pose[:3, :3] = world @ pose[:3, :3] @ cv2.Rodrigues(rng.normal(size=3) * 0.02)[0]
        pose[:3, 3] = scale * world @ (pose[:3, 3] + rng.normal(size=3) * 0.1) + [3, -2, 5]
    return seen


def test_errors_are_those_of_evo():
    rng = np.random.default_rng(3)
    planned = wandering(rng, 50)
    estimated = disturbed(rng, planned, 0.7)
    ours = paper_errors(estimated, planned)

    reference, aligned = PosePath3D(poses_se3=list(planned)), PosePath3D(poses_se3=list(estimated))
    aligned.align(reference, correct_scale=True)
    whole, parts = metrics.PoseRelation, metrics.StatisticsType

    def theirs(kind, relation, statistic, **options) -> float:
        metric = kind(relation, **options)
        metric.process_data((reference, aligned))
        return metric.get_statistic(statistic)

    expected = {
        "rot_err_deg": theirs(metrics.APE, whole.rotation_angle_deg, parts.mean),
        "trans_err_m": theirs(metrics.APE, whole.translation_part, parts.mean),
        "ate_m": theirs(metrics.APE, whole.translation_part, parts.rmse),
        "rpe_m": theirs(metrics.RPE, whole.translation_part, parts.rmse),
        "rpe_deg": theirs(metrics.RPE, whole.rotation_angle_deg, parts.rmse),
    }
    for name, value in expected.items():
        assert getattr(ours, name) == pytest.approx(value, abs=1e-6), name
    assert ours.scale == pytest.approx(1 / 0.7, rel=0.05) and ours.frames == 50 and ours.lost == 0
    matrices = np.stack(aligned.poses_se3)[:, :3] - planned[:, :3]
    assert ours.cam_mc == pytest.approx(np.linalg.norm(matrices, axis=(1, 2)).mean(), abs=1e-6)


def test_scale_is_fitted_away_and_lost_frames_are_counted():
    planned = wandering(np.random.default_rng(5), 40)
    slow = planned.copy()
    slow[:, :3, 3] *= 0.7
    slow[30:34] = np.nan
    errors = paper_errors(slow, planned)
    assert errors.trans_err_m < 1e-9 and errors.scale == pytest.approx(1 / 0.7)
    assert (errors.frames, errors.lost) == (36, 4)


def test_a_straight_path_is_not_turned_about_itself():
    rng = np.random.default_rng(1)
    planned = np.tile(np.eye(4), (30, 1, 1))
    planned[:, 2, 3] = np.linspace(0, 3, 30)
    estimated = planned.copy()
    estimated[:, :3, 3] += rng.normal(size=(30, 3)) * 0.003
    assert paper_errors(estimated, planned).rot_err_deg < 0.01


def test_a_path_that_does_not_move_is_refused():
    still = np.tile(np.eye(4), (5, 1, 1))
    with pytest.raises(ProtocolError, match="does not move"):
        paper_errors(still, wandering(np.random.default_rng(0), 5))
