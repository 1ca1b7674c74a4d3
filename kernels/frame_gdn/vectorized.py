# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise bidirectional Gated DeltaNet in torch: batched products per frame, a short serial scan, one read.

Works in fp32 on a few heads at a time, so that fp32 copies of q, k and v never exist whole. Differentiable.
"""

import torch
from torch import Tensor

_CHUNK_ELEMENTS = 1 << 20


def _head_chunks(x: Tensor) -> list[slice]:
    """Slices of the head axis of x (B,T,S,h,D) whose fp32 copies stay near the cache."""
    heads = x.shape[3]
    per_head = x.numel() // heads
    step = min(heads, max(1, _CHUNK_ELEMENTS // per_head))
    return [slice(start, start + step) for start in range(0, heads, step)]


def _by_head(x: Tensor, heads: slice) -> Tensor:
    """(B,T,S,h,D) -> contiguous fp32 (B,h',T,S,D)."""
    return x[:, :, :, heads].permute(0, 3, 1, 2, 4).float().contiguous()


def _rotate(x: Tensor, rotary: Tensor) -> Tensor:
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * rotary).flatten(-2)


def _scan(gram: Tensor, update: Tensor, decay: Tensor) -> Tensor:
    """Forward (inclusive) plus backward (exclusive) states.

    gram (B,h,T,D,D) is symmetric, update (B,h,T,D,E), decay (B,h,T) -> (B,h,T,D,E). The state is stored
    transposed (key axis first): G_t = g_t (G - gram_t G) + update_t.
    """
    frames = gram.shape[2]
    gram, update = gram.unbind(2), update.unbind(2)
    decay = decay[..., None, None].unbind(2)

    def step(state: Tensor, t: int) -> Tensor:
        return update[t] + decay[t] * (state - gram[t] @ state)

    total = [update[0]]
    for t in range(1, frames):
        total.append(step(total[-1], t))
    if frames > 1:
        state = update[-1]
        for t in range(frames - 2, -1, -1):
            total[t] = total[t] + state
            state = step(state, t)
    return torch.stack(total, dim=2)


def _numerator_states(k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    dim = k.shape[-1]
    weighted = torch.cat([k * beta, v * beta], dim=-1)
    products = k.transpose(-1, -2) @ weighted
    return _scan(products[..., :dim], products[..., dim:], decay)


def _denominator_states(k: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    weighted = k * beta
    gram = k.transpose(-1, -2) @ weighted
    return _scan(gram, weighted.sum(dim=-2).unsqueeze(-1), decay)


def frame_gdn(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, rotary: Tensor) -> Tensor:
    """Main branch. Shapes and meaning as in `naive.frame_gdn`; the result has the dtype of v."""
    out = torch.empty_like(v)
    beta, decay = beta.permute(0, 3, 1, 2).float()[..., None], decay.transpose(1, 2)
    for heads in _head_chunks(v):
        beta_h, decay_h = beta[:, heads], decay[:, heads]
        keys = _by_head(k, heads)
        den_states = _denominator_states(keys, beta_h, decay_h)
        num_states = _numerator_states(_rotate(keys, rotary), _by_head(v, heads), beta_h, decay_h)
        queries = _by_head(q, heads)
        den = queries @ den_states
        num = _rotate(queries, rotary) @ num_states
        out[:, :, :, heads] = (num / (den + 1e-8)).permute(0, 2, 3, 1, 4).to(out.dtype)
    return out


def camera_gdn(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """Camera branch. Shapes and meaning as in `naive.camera_gdn`; the result has the dtype of v."""
    out = torch.empty_like(v)
    beta, decay = beta.permute(0, 3, 1, 2).float()[..., None], decay.transpose(1, 2)
    for heads in _head_chunks(v):
        num_states = _numerator_states(
            _by_head(k, heads), _by_head(v, heads), beta[:, heads], decay[:, heads]
        )
        num = _by_head(q, heads) @ num_states
        out[:, :, :, heads] = num.permute(0, 2, 3, 1, 4).to(out.dtype)
    return out
