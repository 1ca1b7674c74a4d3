# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise Gated DeltaNet, written as the recurrence reads: fp32, one frame at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Turn adjacent channel pairs of x (B,T,S,h,D) by the complex table (T,S,D/2), in fp32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotary[:, :, None]).flatten(-2)


def states(
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor,
    chunks: Sequence[slice] | None = None,
    start: Tensor | None = None,
) -> tuple[list[Tensor], Tensor]:
    """What the queries of every frame read, and what the frames after the last one go on from.

    Forward the state includes the frame itself and starts from `start`; backward it excludes the frame and
    starts from zero at the end of each chunk. States have the key axis first.

    k (B,T,S,h,Dk), v (B,T,S,h,Dv), beta (B,T,S,h), decay (B,T,h), start (B,h,Dk,Dv)
    -> T sums of both directions (B,h,Dk,Dv), and the last forward state (B,h,Dk,Dv).
    """
    frames = k.shape[1]
    identity = torch.eye(k.shape[-1], device=k.device)
    transition, update = [], []
    for t in range(frames):
        weighted = k[:, t] * beta[:, t, :, :, None]
        keys = torch.einsum("bshi,bshj->bhij", k[:, t], weighted)
        transition.append(decay[:, t, :, None, None] * (identity - keys))
        update.append(torch.einsum("bshi,bshj->bhij", weighted, v[:, t]))
    zero = torch.zeros_like(update[0])
    forward, state = [], zero if start is None else start
    for t in range(frames):
        state = transition[t] @ state + update[t]
        forward.append(state)
    last_frames = [chunk.stop - 1 for chunk in chunks or [slice(0, frames)]]
    backward = [zero] * frames
    for t in reversed(range(frames)):
        if t not in last_frames:
            backward[t] = transition[t + 1] @ backward[t + 1] + update[t + 1]
    return [f + r for f, r in zip(forward, backward, strict=True)], state


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
    """Main branch: numerator over rotated q and k, denominator over un-rotated ones.

    q, k, v (B,T,S,h,D) with q and k non-negative and k already scaled; beta (B,T,S,h); decay (B,T,h) fp32;
    rotary (T,S,D/2) complex; start: numerator state (B,h,D,D) and denominator state (B,h,D,1).
    Returns (B,T,S,h,D) fp32, and the states after the last frame.
    """
    q, k, v, beta = q.float(), k.float(), v.float(), beta.float()
    of_values, of_ones = start or (None, None)
    numerator, of_values = states(rotate(k, rotary), v, beta, decay, chunks, of_values)
    denominator, of_ones = states(k, torch.ones_like(v[..., :1]), beta, decay, chunks, of_ones)
    q_rotated = rotate(q, rotary)
    frames = []
    for t in range(q.shape[1]):
        num = torch.einsum("bhij,bshi->bshj", numerator[t], q_rotated[:, t])
        den = torch.einsum("bhij,bshi->bshj", denominator[t], q[:, t])
        frames.append(num / (den + 1e-8))
    return torch.stack(frames, dim=1), (of_values, of_ones)
