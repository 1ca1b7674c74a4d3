# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise Gated DeltaNet: `frame_gdn` (main branch) and `camera_gdn` (camera branch).

One recurrence for three ways of looking at time. Bidirectional: one chunk, every frame sees all others.
Chunk-causal: several chunks in one call, the forward direction runs through, the backward direction ends with each
chunk. Cached: one chunk in a call, the forward direction goes on from the state `start` that the chunk before left.
"""

from collections.abc import Sequence

from torch import Tensor

from . import vectorized


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
    """Gated delta rule over frames, with a normalising denominator; computed in fp32.

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
    """
    return vectorized.frame_gdn(q, k, v, beta, decay, rotary, chunks, start)


def camera_gdn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor,
    chunks: Sequence[slice] | None = None,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The same recurrence without rotation and denominator, for q, k, v already in ray coordinates.

    `start` and the returned state are the numerator (B,h,D,D) alone.
    """
    return vectorized.camera_gdn(q, k, v, beta, decay, chunks, start)
