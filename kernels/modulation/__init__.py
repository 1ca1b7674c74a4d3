# SPDX-License-Identifier: GPL-3.0-or-later
"""How the diffusion time modulates a block of stage 1: adaptive layer norm, gated residual; see README.md."""

from __future__ import annotations

import torch
from torch import Tensor

from ..devices import triton_path
from . import vectorized

__all__ = ["gated_residual", "modulated", "path", "residual_modulated"]


def path(device: torch.device | str) -> tuple[str, str]:
    """Which implementation a torch device takes, "fused" or "vectorized", and why."""
    return triton_path(device)


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """LayerNorm(x) * (1 + scale) + shift, statistics in fp32; x (B,T,S,C), scale and shift (B,T,1,C)."""
    return _implementation(x).modulated(x, scale, shift)


def residual_modulated(x: Tensor, change: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """x + change, and `modulated` of this sum; x and change (B,T,S,C), scale and shift (B,T,1,C).

    On a CPU without gradients `change` is overwritten.
    """
    return _implementation(x).residual_modulated(x, change, scale, shift)


def gated_residual(x: Tensor, gate: Tensor, change: Tensor, added: Tensor | None = None) -> Tensor:
    """x + gate * change + added; gate (B,T,1,C), all else (B,T,S,C).

    On a CPU without gradients `added` is overwritten.
    """
    return _implementation(x).gated_residual(x, gate, change, added)


def _implementation(x: Tensor):
    if path(x.device)[0] == "vectorized":
        return vectorized
    from . import fused

    return fused
