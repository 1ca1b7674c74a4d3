# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise Gated DeltaNet in torch: products of every frame, a short serial scan, one read per frame.

Works in fp32 on a few frames at a time, so that fp32 copies of q, k and v never exist whole. Differentiable.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

# fp32 elements of q, k or v at a time: what a CPU's cache holds, a bounded buffer on other devices.
_CPU_PORTION, _DEVICE_PORTION = 1 << 17, 1 << 26


def portions(x: Tensor) -> list[slice]:
    """Slices of the frame axis of x (B,T,S,h,D) that are worked on at once."""
    frames, portion = x.shape[1], _CPU_PORTION if x.device.type == "cpu" else _DEVICE_PORTION
    step = max(1, portion * frames // x.numel())
    return [slice(start, start + step) for start in range(0, frames, step)]


def _by_head(x: Tensor) -> Tensor:
    """(B,T,S,h,D) -> fp32 (B,T,h,S,D)."""
    return x.transpose(2, 3).float()


def _rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """x (B,T,h,S,D), rotary (T,S,D/2)."""
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * rotary[:, None]).flatten(-2)


def scan(
    products: Sequence[tuple[Tensor, Tensor]],
    decay: Tensor,
    chunks: Sequence[slice] | None,
    start: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Forward (inclusive) plus backward (exclusive, within its chunk) state of every frame, and the last forward one.

    products: gram (B,t,h,D,D), symmetric, and update (B,t,h,D,E) of a few frames at a time; decay (B,T,h);
    start (B,h,D,E). Returns (B,T,h,D,E) and (B,h,D,E), key axis first: G_t = g_t (G - gram_t G) + update_t.
    """
    gram = [frame for portion, _ in products for frame in portion.unbind(1)]
    update = [frame for _, portion in products for frame in portion.unbind(1)]
    decay = decay[..., None, None].unbind(1)

    def step(state: Tensor, t: int) -> Tensor:
        return torch.addcmul(update[t], decay[t], state - gram[t] @ state)

    total = [update[0] if start is None else step(start, 0)]
    for t in range(1, len(update)):
        total.append(step(total[-1], t))
    last = total[-1]
    for chunk in chunks or [slice(0, len(update))]:
        state = torch.zeros_like(update[0])
        for t in reversed(range(chunk.start + 1, chunk.stop)):
            state = step(state, t)
            total[t - 1] = total[t - 1] + state
    return torch.stack(total, dim=1), last


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
    beta = beta.transpose(2, 3).float().unsqueeze(-1)
    numerators, denominators = [], []
    for frames in portions(v):
        keys = _by_head(k[:, frames])
        weighted = (keys * beta[:, frames]).transpose(-1, -2)
        denominators.append((weighted @ keys, weighted.sum(dim=-1, keepdim=True)))
        keys = _rotate(keys, rotary[frames])
        weighted = (keys * beta[:, frames]).transpose(-1, -2)
        numerators.append((weighted @ keys, weighted @ _by_head(v[:, frames])))
    of_values, of_ones = start or (None, None)
    numerator, of_values = scan(numerators, decay, chunks, of_values)
    denominator, of_ones = scan(denominators, decay, chunks, of_ones)
    out = torch.empty_like(v)
    for frames in portions(v):
        queries = _by_head(q[:, frames])
        den = queries @ denominator[:, frames]
        num = _rotate(queries, rotary[frames]) @ numerator[:, frames]
        out[:, frames] = (num / (den + 1e-8)).transpose(2, 3)
    return out, (of_values, of_ones)
