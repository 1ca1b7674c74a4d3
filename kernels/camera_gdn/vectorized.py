# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch's Gated DeltaNet in torch, encoded, scanned and decoded a few frames at a time.

No fp32 copy of q, k or v exists whole, nor do they in ray coordinates. Differentiable.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..frame_gdn.vectorized import products, read, scan
from ..tokens import portions
from .ucpe import Rays, decode, encode_key_or_value, encode_query, length, rays_at


def camera_gdn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor,
    rays: Rays,
    chunks: Sequence[slice] | None = None,
    start: Tensor | None = None,
    renormalize: bool = False,
) -> tuple[Tensor, Tensor]:
    """Gated delta rule over frames in ray coordinates; computed in fp32.

    Args:
        q, k, v: (B,T,S,h,D) in world coordinates; q and k non-negative, k already scaled.
        beta: (B,T,S,h) in (0,1). It is divided by how much longer the keys of a frame are in ray coordinates, in the
            mean of their squares and at least 1, so that a distant camera centre leaves the recurrence stable.
        decay: (B,T,h) fp32 in (0,1).
        rays: world to ray (B,T,S,4,4) fp32, its inverse, and the rotary table (T,S,D/4) complex64. Queries take the
            first one transposed, keys and values the second, outputs the first one and turn back.
        chunks: slices of T, in order and without gaps; None for one chunk.
        start: the state before frame 0 (B,h,D,D) fp32, key axis first; None for zeros. Not written to.
        renormalize: scale q, k and v back to their length in world coordinates where they became longer.

    Returns:
        (B,T,S,h,D) in v's dtype, in world coordinates, and the state after frame T - 1, like `start`.
    """
    frame_products = []
    for frames in portions(v):
        here, plain = rays_at(rays, frames), k[:, frames].float()
        keys = encode_key_or_value(plain, here, renormalize)
        values = encode_key_or_value(v[:, frames].float(), here, renormalize)
        longer = length(keys).clamp(min=1e-6) / length(plain).clamp(min=1e-6)
        inflation = longer.square().mean(dim=2).clamp(min=1).mT
        frame_products += products(keys, values, beta[:, frames].float() / inflation, decay[:, frames])
    states, last = scan(frame_products, chunks, start)
    out = torch.empty_like(v)
    for frames in portions(v):
        here = rays_at(rays, frames)
        queries = encode_query(q[:, frames].float(), here, renormalize)
        out[:, frames] = decode(read(queries, states[frames]), here)
    return out, last
