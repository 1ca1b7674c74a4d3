# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise bidirectional Gated DeltaNet in torch: products of every frame, a short serial scan, one read per frame.

Works in fp32 on a few frames at a time, so that fp32 copies of q, k and v never exist whole. Differentiable.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

# fp32 elements of q, k or v at a time: what a CPU's cache holds, a bounded buffer on other devices.
_CPU_CHUNK, _DEVICE_CHUNK = 1 << 17, 1 << 26


def _frame_chunks(x: Tensor) -> list[slice]:
    """Slices of the frame axis of x (B,T,S,h,D)."""
    frames, chunk = x.shape[1], _CPU_CHUNK if x.device.type == "cpu" else _DEVICE_CHUNK
    step = max(1, chunk * frames // x.numel())
    return [slice(start, start + step) for start in range(0, frames, step)]


def _by_head(x: Tensor) -> Tensor:
    """(B,T,S,h,D) -> fp32 (B,T,h,S,D)."""
    return x.transpose(2, 3).float()


def _rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """x (B,T,h,S,D), rotary (T,S,D/2)."""
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * rotary[:, None]).flatten(-2)


def _scan(products: Sequence[tuple[Tensor, Tensor]], decay: Tensor) -> Tensor:
    """Forward (inclusive) plus backward (exclusive) state of every frame.

    products: gram (B,t,h,D,D), symmetric, and update (B,t,h,D,E) of a few frames at a time; decay (B,T,h).
    Returns (B,T,h,D,E), states transposed (key axis first): G_t = g_t (G - gram_t G) + update_t.
    """
    gram = [frame for chunk, _ in products for frame in chunk.unbind(1)]
    update = [frame for _, chunk in products for frame in chunk.unbind(1)]
    decay = decay[..., None, None].unbind(1)

    def step(state: Tensor, t: int) -> Tensor:
        return torch.addcmul(update[t], decay[t], state - gram[t] @ state)

    total = [update[0]]
    for t in range(1, len(update)):
        total.append(step(total[-1], t))
    state = torch.zeros_like(update[0])
    for t in reversed(range(1, len(update))):
        state = step(state, t)
        total[t - 1] = total[t - 1] + state
    return torch.stack(total, dim=1)


def frame_gdn(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, rotary: Tensor) -> Tensor:
    """Main branch. Shapes and meaning as in `naive.frame_gdn`; the result has the dtype of v."""
    beta = beta.transpose(2, 3).float().unsqueeze(-1)
    numerators, denominators = [], []
    for frames in _frame_chunks(v):
        keys = _by_head(k[:, frames])
        weighted = (keys * beta[:, frames]).transpose(-1, -2)
        denominators.append((weighted @ keys, weighted.sum(dim=-1, keepdim=True)))
        keys = _rotate(keys, rotary[frames])
        weighted = (keys * beta[:, frames]).transpose(-1, -2)
        numerators.append((weighted @ keys, weighted @ _by_head(v[:, frames])))
    numerator, denominator = _scan(numerators, decay), _scan(denominators, decay)
    out = torch.empty_like(v)
    for frames in _frame_chunks(v):
        queries = _by_head(q[:, frames])
        den = queries @ denominator[:, frames]
        num = _rotate(queries, rotary[frames]) @ numerator[:, frames]
        out[:, frames] = (num / (den + 1e-8)).transpose(2, 3)
    return out


def camera_gdn(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """Camera branch. Shapes and meaning as in `naive.camera_gdn`; the result has the dtype of v."""
    beta = beta.transpose(2, 3).float().unsqueeze(-1)
    products = []
    for frames in _frame_chunks(v):
        keys = _by_head(k[:, frames])
        weighted = (keys * beta[:, frames]).transpose(-1, -2)
        products.append((weighted @ keys, weighted @ _by_head(v[:, frames])))
    states = _scan(products, decay)
    out = torch.empty_like(v)
    for frames in _frame_chunks(v):
        out[:, frames] = (_by_head(q[:, frames]) @ states[:, frames]).transpose(2, 3)
    return out
