# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes the codec's 8x8 blocks from a decoded residual and aligns it with the picture's edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_INPUTS = 3 + 3 + 3 + 1 + 1
_FOLD = 2


class PixelFilter(nn.Module):
    """Four 3x3 convolutions, one of them dilated, on 2x2 pixels folded into channels.

    A new filter returns the residual as it is: its last layer starts at zero.

    Args:
        width: hidden channels.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(_INPUTS * _FOLD**2, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 3 * _FOLD**2, 3, padding=1),
        )
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(
        self, residual: Tensor, base: Tensor, guide: Tensor, visible: Tensor, nearness: Tensor
    ) -> Tensor:
        """Filter single frames.

        Args:
            residual: (N, 3, H, W), decoded change of the base; H and W even.
            base, guide: (N, 3, H, W), RGB 0..1.
            visible: (N, 1, H, W), share of the pixel that the first frame shows.
            nearness: (N, 1, H, W), 0 at infinity .. 1 at the lens.

        Returns:
            (N, 3, H, W), the change of the base to be composited.
        """
        inputs = torch.cat([8 * residual, base - 0.5, guide - 0.5, visible, nearness], dim=1)
        change = self.layers(functional.pixel_unshuffle(inputs, _FOLD))
        return residual + 0.125 * functional.pixel_shuffle(change, _FOLD)
