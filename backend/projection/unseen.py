# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks what the first frame never saw."""

from __future__ import annotations

import numpy as np

# Wide enough to survive the encoder, and a colour that no set has.
STRIPE_PX = 6
COLOR = np.array([1.0, 0.0, 0.6], np.float32)
OPACITY = 0.45


def hatched(picture: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Diagonal stripes where the first frame shows nothing.

    Args:
        picture: (H, W, 3) float32, sRGB 0..1.
        visible: (H, W) float32, share of the pixel that the first frame shows, 0..1.

    Returns:
        (H, W, 3) float32; where `visible` is 1, the picture itself.
    """
    height, width = visible.shape
    diagonal = np.arange(height)[:, None] + np.arange(width)
    stripe = (diagonal // STRIPE_PX % 2).astype(np.float32)
    share = (OPACITY * stripe * (1 - visible))[..., None]
    return picture + share * (COLOR - picture)
