# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise bidirectional Gated DeltaNet, written as the recurrence reads: fp32, one frame at a time."""

import torch
from torch import Tensor


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Turn adjacent channel pairs of x (B,T,S,h,D) by the complex table (T,S,D/2), in fp32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotary[:, :, None]).flatten(-2)


def states(k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> list[Tensor]:
    """Sum of the forward (inclusive) and backward (exclusive) state of every frame.

    k (B,T,S,h,Dk), v (B,T,S,h,Dv), beta (B,T,S,h), decay (B,T,h) -> T tensors (B,h,Dv,Dk).
    """
    frames = k.shape[1]
    identity = torch.eye(k.shape[-1], device=k.device)
    transition, update = [], []
    for t in range(frames):
        weighted = k[:, t] * beta[:, t, :, :, None]
        keys = torch.einsum("bshi,bshj->bhij", weighted, k[:, t])
        transition.append(decay[:, t, :, None, None] * (identity - keys))
        update.append(torch.einsum("bshi,bshj->bhij", v[:, t], weighted))
    zero = torch.zeros_like(update[0])
    forward, state = [], zero
    for t in range(frames):
        state = state @ transition[t] + update[t]
        forward.append(state)
    backward, state = [zero], zero
    for t in reversed(range(1, frames)):
        state = state @ transition[t] + update[t]
        backward.append(state)
    return [f + r for f, r in zip(forward, reversed(backward), strict=True)]


def frame_gdn(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, rotary: Tensor) -> Tensor:
    """Main branch: numerator over rotated q and k, denominator over un-rotated ones.

    q, k, v (B,T,S,h,D) with q and k non-negative and k already scaled; beta (B,T,S,h); decay (B,T,h) fp32;
    rotary (T,S,D/2) complex. Returns (B,T,S,h,D) fp32.
    """
    q, k, v, beta = q.float(), k.float(), v.float(), beta.float()
    numerator = states(rotate(k, rotary), v, beta, decay)
    denominator = states(k, torch.ones_like(v[..., :1]), beta, decay)
    q_rotated = rotate(q, rotary)
    frames = []
    for t in range(q.shape[1]):
        num = torch.einsum("bhij,bshj->bshi", numerator[t], q_rotated[:, t])
        den = torch.einsum("bhij,bshj->bshi", denominator[t], q[:, t])
        frames.append(num / (den + 1e-8))
    return torch.stack(frames, dim=1)


def camera_gdn(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """Camera branch: the numerator alone. Shapes as in `frame_gdn`; returns (B,T,S,h,D) fp32."""
    q, k, v, beta = q.float(), k.float(), v.float(), beta.float()
    numerator = states(k, v, beta, decay)
    frames = [torch.einsum("bhij,bshj->bshi", state, q[:, t]) for t, state in enumerate(numerator)]
    return torch.stack(frames, dim=1)
