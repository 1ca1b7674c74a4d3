# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clip tells without geometry: how sharp it is, and whether a place looks the same when it is seen again."""

from __future__ import annotations

import cv2
import numpy as np

from ..protocol import FPS
from .motion import angles_between

# What is seen again has not been in view for this long, and lies within a pixel of a thumbnail.
REVISIT_AFTER_S = 2.0
REVISIT_PX = 1.0
DEPARTED_PX = 6.0
THUMBNAIL_WIDTH = 64
SOFTER_OVER_S = 10.0


def sharpness(grey: np.ndarray) -> float:
    """Fine detail of (H, W) uint8 relative to detail twice as coarse.

    Edges have both, whatever their contrast and however near they are; a soft picture has lost the fine one.
    """
    coarse = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    fine_detail, coarse_detail = (cv2.Laplacian(image, cv2.CV_16S).std() for image in (grey, coarse))
    return float(fine_detail / max(coarse_detail, 1e-3))


def softer(sharpness: np.ndarray) -> float | None:
    """Share of the sharpness (F,) that is lost from the first to the last 10 s, or thirds if the clip is shorter.

    What is nan is not part of the clip.
    """
    sharpness = sharpness[np.isfinite(sharpness)]
    window = min(round(SOFTER_OVER_S * FPS), len(sharpness) // 3)
    if window < 1:
        return None
    first, last = np.median(sharpness[:window]), np.median(sharpness[-window:])
    return float(1 - last / first) if first > 0 else None


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """(h, 64) uint8 of (H, W)."""
    size = THUMBNAIL_WIDTH, max(1, round(grey.shape[0] * THUMBNAIL_WIDTH / grey.shape[1]))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def revisit_db(thumbnails: np.ndarray, planned: np.ndarray, focal_px: float, depth_m: float) -> float | None:
    """PSNR between frames where the planned path comes back to a view that it has left.

    Args:
        thumbnails: (F, h, 64) uint8.
        planned: (F, 4, 4) camera to world of every frame.
        focal_px, depth_m: of a thumbnail, and of what it shows typically.
    """
    errors = []
    after = round(REVISIT_AFTER_S * FPS)
    for frame in range(after, len(planned)):
        apart_px = _apart(planned[: frame + 1], planned[frame], focal_px, depth_m)
        # Only what lies before the last time that the camera was elsewhere counts as seen before.
        elsewhere = np.flatnonzero(apart_px > DEPARTED_PX)
        before = apart_px[: min(elsewhere[-1], frame - after + 1)] if len(elsewhere) else apart_px[:0]
        if len(before) and before.min() < REVISIT_PX:
            then = thumbnails[int(before.argmin())].astype(np.float32)
            errors.append(float(((then - thumbnails[frame]) ** 2).mean()))
    return float(10 * np.log10(255**2 / max(np.mean(errors), 1e-2))) if errors else None


def _apart(poses: np.ndarray, pose: np.ndarray, focal_px: float, depth_m: float) -> np.ndarray:
    """How far the picture of each of (N, 4, 4) poses is from that of one, roughly, in pixels."""
    shift = np.linalg.norm(poses[:, :3, 3] - pose[:3, 3], axis=1) / depth_m
    turn = angles_between(poses[:, :3, :3], np.broadcast_to(pose[:3, :3], (len(poses), 3, 3)))
    return focal_px * (shift + turn)
