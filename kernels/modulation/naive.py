# SPDX-License-Identifier: GPL-3.0-or-later
"""Adaptive layer norm and residuals in fp32, as the definitions read."""

from torch import Tensor


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x (B,T,S,C), scale and shift (B,T,1,C): LayerNorm over channels without weights, times 1 + scale, plus shift."""
    x = x.float()
    centered = x - x.mean(dim=-1, keepdim=True)
    normed = centered / (centered.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    return normed * (1 + scale.float()) + shift.float()


def residual_modulated(x: Tensor, change: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """x + change, and its `modulated`; change (B,T,S,C)."""
    total = x.float() + change.float()
    return total, modulated(total, scale, shift)


def gated_residual(x: Tensor, gate: Tensor, change: Tensor, added: Tensor | None = None) -> Tensor:
    """x + gate * change + added; gate (B,T,1,C), all else (B,T,S,C)."""
    total = x.float() + gate.float() * change.float()
    return total if added is None else total + added.float()
