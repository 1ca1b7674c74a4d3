# SPDX-License-Identifier: GPL-3.0-or-later
"""SiLU gates of stage 1: inside the feed-forward, and of the attention's output; see README.md."""

from __future__ import annotations

import torch
from torch import Tensor

from ..devices import triton_path
from . import vectorized

__all__ = ["gated", "gated_sum", "path"]


def path(device: torch.device | str) -> tuple[str, str]:
    """Which implementation a torch device takes, "fused" or "vectorized", and why."""
    return triton_path(device)


def gated(hidden: Tensor) -> Tensor:
    """hidden (..., 2 C), values and then gates -> value * SiLU(gate), (..., C).

    On a CPU without gradients the gates are overwritten.
    """
    return _implementation(hidden).gated(hidden)


def gated_sum(main: Tensor, other: Tensor | None, gate: Tensor) -> Tensor:
    """(main + other) * SiLU(gate), the gate in fp32; all (..., C).

    On a CPU without gradients `other` and `gate` are overwritten.
    """
    return _implementation(main).gated_sum(main, other, gate)


def _implementation(x: Tensor):
    if path(x.device)[0] == "vectorized":
        return vectorized
    from . import fused

    return fused
