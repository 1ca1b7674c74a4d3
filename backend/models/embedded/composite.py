# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds the network's residual to a frame, in the holes of the projection only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Share of a class (sky or not) that the raster around a pixel must have for its residual to count fully.
_ENOUGH_OF_CLASS = 0.25
SKY_LINE_PX = 2


def composite(
    base: np.ndarray,
    residual: Tensor,
    raster_sky: Tensor,
    visible: np.ndarray,
    is_sky: np.ndarray,
    strength: float,
) -> np.ndarray:
    """One finished frame. Pixels that the first frame shows completely are returned bit for bit.

    The residual comes from a smaller raster. Sky and solid things are scaled up apart from each other, so
    that neither bleeds over the horizon, and the residual fades out at the sky line and at the holes' rims.

    Args:
        base: (H, W, 3) float32, sRGB 0..1, the projected frame with filled holes.
        residual: (3, h, w) float32, change of the base at the filter's size.
        raster_sky: (1, h, w) float32, share of sky in those pixels.
        visible: (H, W) float32, share of the pixel that the first frame shows.
        is_sky: (H, W) bool.
        strength: how much of the residual to add, 0..1.

    Returns:
        (H, W, 3) float32, 0..1 in the holes.
    """
    height, width = base.shape[:2]
    hole = 1 - visible
    if strength == 0 or not hole.any():
        return base
    device = residual.device
    sky = torch.from_numpy(np.ascontiguousarray(is_sky)).to(device)[None, None].float()
    weights = torch.cat([raster_sky, 1 - raster_sky])[None]
    layers = torch.cat([residual[None] * weights[:, :1], residual[None] * weights[:, 1:], weights], dim=1)
    layers = functional.interpolate(layers, size=(height, width), mode="bilinear", align_corners=False)
    of_sky, of_solid = (
        layers[:, 3 * n : 3 * n + 3] / layers[:, 6 + n : 7 + n].clamp(min=_ENOUGH_OF_CLASS) for n in (0, 1)
    )
    change = torch.where(sky > 0, of_sky, of_solid)
    holes = torch.from_numpy(np.ascontiguousarray(hole)).to(device)[None, None]
    rim_px = max(1, round(height / residual.shape[1]))
    weight = holes * _inside(holes, rim_px) * away_from_sky_line(sky)
    finished = torch.from_numpy(base).to(device) + (strength * weight * change)[0].permute(1, 2, 0)
    return np.where(hole[..., None] > 0, finished.clamp(0, 1).cpu().numpy(), base)


def _inside(holes: Tensor, rim_px: int) -> Tensor:
    """0 at a hole's straight rim, 1 from `rim_px` inside on."""
    kernel = 2 * rim_px + 1
    padded = functional.pad(holes, [rim_px] * 4, mode="replicate")
    return (2 * functional.avg_pool2d(padded, kernel, stride=1) - 1).clamp(0, 1)


def away_from_sky_line(sky: Tensor) -> Tensor:
    """(N, 1, H, W) share or mask of sky -> 0 within SKY_LINE_PX of its line, 1 from twice that on."""
    reach = SKY_LINE_PX
    kernel = 2 * reach + 1
    widest = functional.max_pool2d(sky, kernel, 1, reach)
    narrowest = -functional.max_pool2d(-sky, kernel, 1, reach)
    near = widest - narrowest
    return 1 - functional.avg_pool2d(
        functional.max_pool2d(near, 3, 1, 1), kernel, 1, reach, count_include_pad=False
    ).clamp(0, 1)
