# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch's Gated DeltaNet in torch, encoded, scanned and decoded a few frames at a time.

No fp32 copy of q, k or v exists whole, nor do they in ray coordinates. Differentiable.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..frame_gdn.vectorized import products, read, scan
from ..tokens import heads_apart, in_portions, squared_length
from .ucpe import Rays, decode, encode_key_or_value, encode_query, rays_at


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
    for frames, keys, values, rates, fading in in_portions(k, v, beta, decay):
        here, plain = rays_at(rays, frames), heads_apart(keys)
        keys = encode_key_or_value(plain, here, renormalize)
        values = encode_key_or_value(heads_apart(values), here, renormalize)
        longer = squared_length(keys).clamp(min=1e-12) / squared_length(plain).clamp(min=1e-12)
        inflation = longer.mean(dim=2).clamp(min=1).mT
        frame_products += products(keys, values, rates.float() / inflation, fading)
    states, last = scan(frame_products, chunks, start)
    parts = []
    for frames, queries in in_portions(q):
        here = rays_at(rays, frames)
        queries = encode_query(heads_apart(queries), here, renormalize)
        parts.append(decode(read(queries, states[frames]), here).to(v.dtype))
    return torch.cat(parts, dim=1), last
