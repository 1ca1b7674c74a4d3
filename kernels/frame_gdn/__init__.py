# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise Gated DeltaNet, the main branch; see README.md.

One recurrence for three ways of looking at time. Bidirectional: one chunk, every frame sees all others.
Chunk-causal: several chunks in one call, the forward direction runs through, the backward direction ends with each
chunk. Cached: one chunk in a call, the forward direction goes on from the state `start` that the chunk before left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..devices import triton_path
from . import vectorized

__all__ = ["frame_gdn", "path"]


def path(device: torch.device | str) -> tuple[str, str]:
    """Which implementation a torch device takes, "fused" or "vectorized", and why."""
    return triton_path(device)


def frame_gdn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor,
    rotary: Tensor,
    chunks: Sequence[slice] | None = None,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Gated delta rule over frames, with a normalising denominator; by device, as `path` says.

    Args:
        q, k, v: (B,T,S,h,D); q and k non-negative and un-rotated, k already scaled.
        beta: (B,T,S,h) in (0,1).
        decay: (B,T,h) fp32 in (0,1).
        rotary: (T,S,D/2) complex64.
        chunks: slices of T, in order and without gaps; None for one chunk.
        start: the state before frame 0, numerator (B,h,D,D), key axis first, and denominator (B,h,D,1), fp32;
            None for zeros. Not written to.

    Returns:
        (B,T,S,h,D) in v's dtype, and the state after frame T - 1, like `start`.

    Raises:
        ValueError: on a GPU, heads of a width or a dtype that its kernels are not made for.
    """
    if path(v.device)[0] == "vectorized":
        return vectorized.frame_gdn(q, k, v, beta, decay, rotary, chunks, start)
    from . import fused

    return fused.frame_gdn(q, k, v, beta, decay, rotary, chunks, start)
