# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise bidirectional Gated DeltaNet: `frame_gdn` (main branch) and `camera_gdn` (camera branch)."""

from torch import Tensor

from . import vectorized


def frame_gdn(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, rotary: Tensor) -> Tensor:
    """Gated delta rule over frames in both directions, with a normalising denominator.

    q, k, v (B,T,S,h,D), q and k non-negative and un-rotated, k already scaled; beta (B,T,S,h) in (0,1);
    decay (B,T,h) fp32 in (0,1); rotary (T,S,D/2) complex64. Returns (B,T,S,h,D) in v's dtype, computed in fp32.
    """
    return vectorized.frame_gdn(q, k, v, beta, decay, rotary)


def camera_gdn(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """The same recurrence without rotation and denominator, for q, k, v already in ray coordinates."""
    return vectorized.camera_gdn(q, k, v, beta, decay)
