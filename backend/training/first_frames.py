# SPDX-License-Identifier: GPL-3.0-or-later
"""First frames that are not renders of the scene: graded, or painted over."""

from __future__ import annotations

import cv2
import numpy as np

# Widths of the brush, in heights of the picture.
_BRUSHES = (1 / 60, 1 / 25)


class Grade:
    """A colour grade as an editor would give it: contrast, gamma, and a tint of shadows and lights.

    It changes every pixel by itself, so a graded first frame asks for the graded picture in all frames.

    Args:
        strength: 1 is strong.
    """

    def __init__(self, rng: np.random.Generator, strength: float = 1.0) -> None:
        self._gamma = np.exp(strength * rng.uniform(-0.35, 0.35))
        self._contrast = strength * rng.uniform(-0.3, 0.6)
        self._mixing = np.eye(3) + strength * rng.normal(0, 0.1, (3, 3))
        self._mixing /= self._mixing.sum(1, keepdims=True)
        self._shadows, self._lights = strength * rng.normal(0, 0.05, (2, 3))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(..., 3) float32, sRGB 0..1."""
        picture = np.clip(picture, 0, 1) ** self._gamma @ self._mixing.T
        curved = picture * picture * (3 - 2 * picture)
        picture = picture + self._contrast * (curved - picture)
        return np.clip(picture + self._shadows * (1 - picture) + self._lights * picture, 0, 1).astype(
            np.float32
        )


def painted(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Painted over: smoothed within its edges, in fewer tones, with strokes of a brush.

    Args:
        picture: (H, W, 3) float32, sRGB 0..1.
    """
    height, width = picture.shape[:2]
    smooth = cv2.bilateralFilter(np.ascontiguousarray(picture), 0, 0.12, max(1.0, height / 90))
    tones = rng.integers(7, 14)
    flat = 0.5 * smooth + 0.5 * np.round(smooth * tones) / tones
    strokes = np.zeros((height, width), np.float32)
    for brush in _BRUSHES:
        size_px = max(2, round(brush * height))
        noise = rng.standard_normal((height, width)).astype(np.float32)
        angle = rng.uniform(0, np.pi)
        kernel = np.zeros((2 * size_px + 1, 2 * size_px + 1), np.float32)
        reach = np.array([np.cos(angle), np.sin(angle)]) * size_px
        ends = np.round([size_px - reach, size_px + reach]).astype(int)
        cv2.line(kernel, tuple(ends[0].tolist()), tuple(ends[1].tolist()), 1.0)
        stroke = cv2.filter2D(noise, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
        strokes += stroke / max(stroke.std(), 1e-6)
    return np.clip(flat + 0.025 * strokes[..., None], 0, 1).astype(np.float32)
