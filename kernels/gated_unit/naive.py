# SPDX-License-Identifier: GPL-3.0-or-later
"""SiLU gates in fp32, as the definitions read."""

import torch
from torch import Tensor


def gated(hidden: Tensor) -> Tensor:
    """hidden (..., 2 C), values and then gates -> (..., C): value * gate * sigmoid(gate)."""
    value, gate = hidden.float().chunk(2, dim=-1)
    return value * gate * torch.sigmoid(gate)


def gated_sum(main: Tensor, other: Tensor | None, gate: Tensor) -> Tensor:
    """(main + other) * gate * sigmoid(gate); all (..., C)."""
    total = main.float() if other is None else main.float() + other.float()
    return total * gate.float() * torch.sigmoid(gate.float())
