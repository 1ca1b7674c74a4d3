# SPDX-License-Identifier: GPL-3.0-or-later
"""What stage 1's queries and keys go through between projection and attention; see README.md."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..devices import triton_path
from . import vectorized

__all__ = ["path", "prologue"]


def path(device: torch.device | str) -> tuple[str, str]:
    """Which implementation a torch device takes, "fused" or "vectorized", and why."""
    return triton_path(device)


def prologue(
    x: Tensor,
    weight: Tensor,
    eps: float,
    scale: float = 1.0,
    rectify: bool = False,
    taps: Tensor | None = None,
    chunks: Sequence[slice] | None = None,
    tail: Tensor | None = None,
    crosses_chunks: bool = True,
    rotary: Tensor | None = None,
) -> Tensor:
    """Short convolution along frames, RMSNorm over all channels, scale, ReLU, rotation; all but the norm optional.

    Args:
        x: (B,T,S,C), the projection or a slice of one; (...,C) without taps and rotary. On a CPU, without taps and
            gradients, it is overwritten.
        weight: (C,) of the norm; its statistics are fp32.
        scale: of keys.
        taps: (C,1,n): a causal filter along frames, used with its mirror image, the centre counted once.
        chunks: slices of T; the mirrored half ends with the frame's own chunk. None for one chunk.
        tail: (B,n-1,S,C), the frames before x that the causal half sees; None for zeros.
        crosses_chunks: whether the causal half sees earlier chunks and the tail at all.
        rotary: (T,S,D/2) complex64 for heads of D channels; None leaves them as they are.

    Returns:
        Like x, in its dtype.
    """
    if path(x.device)[0] == "vectorized":
        chosen = vectorized.prologue
    else:
        from .fused import prologue as chosen
    return chosen(x, weight, eps, scale, rectify, taps, chunks, tail, crosses_chunks, rotary)
