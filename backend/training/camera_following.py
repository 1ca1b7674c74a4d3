# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a clip move as its camera says? Optical flow against the flow that depth and camera path make."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from .clip_files import TrainingClip

FLOW_STEP = 4
# Optical flow finds nothing on plain surfaces, and wrong things at their rims: it counts where it finds the motion
# of the truth itself to this many pixels.
MEASURABLE_PX = 1.0


@dataclass(frozen=True)
class Following:
    """Over pairs of frames FLOW_STEP apart, with v the true flow and u the clip's.

    Attributes:
        cosine: sum of u.v over the root of the sums of u.u and v.v, over the measurable pixels; 0 for a still clip.
        gain: sum of u.v over the sum of v.v there: 1 where the motion has its right size.
        cosine_everywhere: the cosine over all pixels; even the truth does not reach 1.
    """

    cosine: float
    gain: float
    cosine_everywhere: float


def following(picture: Tensor, clip: TrainingClip) -> Following:
    """Compare a made clip (F, 3, h, w), 0..1, with the motion of `clip`, whose scene stands still."""
    frames, truth = ([_gray(frame) for frame in frames] for frames in (picture, clip.truth))
    sums, everywhere = np.zeros(3), np.zeros(3)
    for first in range(0, len(frames) - FLOW_STEP, FLOW_STEP):
        second = first + FLOW_STEP
        flow = _optical_flow(frames[first], frames[second])
        wanted, ahead = true_flow(clip, first, second)
        found = _optical_flow(truth[first], truth[second])
        measurable = ahead & (np.linalg.norm(found - wanted, axis=-1) < MEASURABLE_PX)
        sums += _products(flow[measurable], wanted[measurable])
        everywhere += _products(flow[ahead], wanted[ahead])
    return Following(_cosine(sums), sums[0] / max(sums[2], 1e-9), _cosine(everywhere))


def true_flow(clip: TrainingClip, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the surfaces of frame `first` are in frame `second`, without regard to what hides them there.

    Returns:
        (h, w, 2) pixels right and down, and (h, w) bool: the surface lies ahead of the second camera.
    """
    inverse_depth = clip.projection.inverse_depth[first, 0].numpy()
    height, width = inverse_depth.shape
    path = clip.path.fitted_to((width, height))
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    fx, fy, cx, cy = path.intrinsics[first]
    ray = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], axis=-1)
    turn = np.linalg.inv(path.c2w[second]) @ path.c2w[first]
    # Divided by the depth, so that the sky is a point at infinity.
    seen = ray @ turn[:3, :3].T + inverse_depth[..., None] * turn[:3, 3]
    fx, fy, cx, cy = path.intrinsics[second]
    ahead = seen[..., 2] > 0.05
    depth = np.where(ahead, seen[..., 2], 1)
    place = np.stack([fx * seen[..., 0] / depth + cx, fy * seen[..., 1] / depth + cy], axis=-1)
    return place - np.stack([x, y], axis=-1), ahead


def _products(flow: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(3,) sums of u.v, u.u and v.v."""
    flow = flow.astype(np.float64)
    return np.array([(flow * wanted).sum(), (flow**2).sum(), (wanted**2).sum()])


def _cosine(sums: np.ndarray) -> float:
    return float(sums[0] / max(np.sqrt(sums[1] * sums[2]), 1e-9))


def _optical_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(h, w, 2) pixels, by dense inverse search on pictures twice as large, which its patches need."""
    scaled = [cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for image in (first, second)]
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*scaled, None)
    return cv2.resize(flow, first.shape[::-1], interpolation=cv2.INTER_AREA) / 2


def _gray(frame: Tensor) -> np.ndarray:
    pixels = (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
