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
    """As the package's `camera_gdn`."""
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
