# SPDX-License-Identifier: GPL-3.0-or-later
"""Adaptive layer norm and gated residual in torch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """As the package's `modulated`."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


def gated_residual(x: Tensor, gate: Tensor, change: Tensor, added: Tensor | None = None) -> Tensor:
    """As the package's `gated_residual`."""
    total = torch.addcmul(x, gate, change)
    if added is None:
        return total
    return total + added if torch.is_grad_enabled() else total.add_(added)
