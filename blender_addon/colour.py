# SPDX-License-Identifier: GPL-3.0-or-later
"""Scene-linear colour and sRGB (IEC 61966-2-1), values of any shape in 0..1; what lies outside is clipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def srgb_from_linear(linear: ArrayLike) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def linear_from_srgb(srgb: ArrayLike) -> np.ndarray:
    srgb = np.clip(srgb, 0, 1)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
