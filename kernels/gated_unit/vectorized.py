# SPDX-License-Identifier: GPL-3.0-or-later
"""SiLU gates in torch; without gradients they overwrite what they are given."""

import torch
import torch.nn.functional as F
from torch import Tensor


def gated(hidden: Tensor) -> Tensor:
    """As the package's `gated`."""
    value, gate = hidden.chunk(2, dim=-1)
    return value * F.silu(gate, inplace=not torch.is_grad_enabled())


def gated_sum(main: Tensor, other: Tensor | None, gate: Tensor) -> Tensor:
    """As the package's `gated_sum`."""
    total = main if other is None else main + other if torch.is_grad_enabled() else other.add_(main)
    product = total.float() * F.silu(gate.float(), inplace=not torch.is_grad_enabled())
    return product.to(main.dtype)
