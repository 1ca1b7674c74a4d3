# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise Gated DeltaNet, the camera branch: in the coordinates of each token's ray; see README.md."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..devices import triton_path
from . import vectorized
from .ucpe import Rays, decode, encode_key_or_value, encode_query, rays_at

__all__ = ["Rays", "camera_gdn", "decode", "encode_key_or_value", "encode_query", "path", "rays_at"]


def path(device: torch.device | str) -> tuple[str, str]:
    """Which implementation a torch device takes, "fused" or "vectorized", and why."""
    return triton_path(device)


def camera_gdn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor,
    rays: tuple[Tensor, Tensor, Tensor],
    chunks: Sequence[slice] | None = None,
    start: Tensor | None = None,
    renormalize: bool = False,
) -> tuple[Tensor, Tensor]:
    """The gated delta rule of `frame_gdn` without denominator, over q, k, v in ray coordinates; by device.

    Args:
        q, k, v: (B,T,S,h,D); q and k non-negative, k already scaled.
        beta: (B,T,S,h) in (0,1); divided by how much the rays lengthen a frame's keys, in the mean of their squares.
        decay: (B,T,h) fp32 in (0,1).
        rays: P (B,T,S,4,4) world to ray, its inverse, both fp32, and the rotary table (T,S,D/4) complex64.
        chunks: slices of T, in order and without gaps; None for one chunk.
        start: the state before frame 0, (B,h,D,D), key axis first, fp32; None for zeros. Not written to.
        renormalize: scale q, k and v in ray coordinates down to the root mean square that they had before.

    Returns:
        (B,T,S,h,D) in v's dtype, back from ray coordinates, and the state after frame T - 1.

    Raises:
        ValueError: on a GPU, heads of a width or a dtype that its kernels are not made for.
    """
    if path(v.device)[0] == "vectorized":
        chosen = vectorized.camera_gdn
    else:
        from .fused import camera_gdn as chosen
    return chosen(q, k, v, beta, decay, rays, chunks, start, renormalize)
