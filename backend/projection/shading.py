# SPDX-License-Identifier: GPL-3.0-or-later
"""Viewport shading of object colours in the manner of Blender's Workbench studio light."""

from __future__ import annotations

import numpy as np

_AMBIENT, _HEMISPHERE, _KEY = 0.30, 0.25, 0.45
_KEY_DIRECTION = np.array([-0.40, -0.55, 0.73]) / np.linalg.norm([-0.40, -0.55, 0.73])


def studio_shading(colors: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Light plain colours by a soft sky and one key light, both fixed to the world.

    Workbench fixes its lights to the camera by default; fixed to the world, a surface keeps its colour
    along the camera path, which is what a guide needs.

    Args:
        colors: (..., 3) sRGB 0..1.
        normals: (..., 3) unit length, world, z up.

    Returns:
        (..., 3) float32, sRGB 0..1.
    """
    sky = _AMBIENT + _HEMISPHERE * (0.5 + 0.5 * normals[..., 2:])
    key = _KEY * np.maximum(normals @ _KEY_DIRECTION, 0)[..., None]
    return linear_to_srgb(srgb_to_linear(colors) * (sky + key)).astype(np.float32)


def srgb_to_linear(color: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, any shape, 0..1."""
    color = np.clip(color, 0, 1)
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(color: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, any shape, 0..1."""
    color = np.clip(color, 0, 1)
    return np.where(color <= 0.0031308, color * 12.92, 1.055 * color ** (1 / 2.4) - 0.055)
