# SPDX-License-Identifier: GPL-3.0-or-later
"""Adaptive layer norm and residuals in torch; without gradients some overwrite what they are given."""

import torch
import torch.nn.functional as F
from torch import Tensor


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """As the package's `modulated`."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


def residual_modulated(x: Tensor, change: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """As the package's `residual_modulated`; without gradients the sum is made in `change`."""
    total = x + change if torch.is_grad_enabled() else change.add_(x)
    return total, modulated(total, scale, shift)


def gated_residual(x: Tensor, gate: Tensor, change: Tensor, added: Tensor | None = None) -> Tensor:
    """As the package's `gated_residual`; without gradients the sum is made in `added`, if there is one."""
    total = torch.addcmul(x, gate, change)
    if added is None:
        return total
    return total + added if torch.is_grad_enabled() else added.add_(total)
