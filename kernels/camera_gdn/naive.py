# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch's Gated DeltaNet, written as its definition reads: fp32, one frame at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..frame_gdn.naive import rotate, states


def transform(x: Tensor, matrix: Tensor, rotary: Tensor) -> Tensor:
    """x (B,T,S,h,D): groups of 4 channels of the first half times matrix (B,T,S,4,4), the second half turned."""
    first, second = x.chunk(2, dim=-1)
    projected = torch.einsum("btsij,btshgj->btshgi", matrix, first.unflatten(-1, (-1, 4))).flatten(-2)
    return torch.cat([projected, rotate(second, rotary)], dim=-1)


def renormalize_to(reference: Tensor, x: Tensor) -> Tensor:
    """x with each head scaled down to the root mean square of its reference, where it is larger."""
    before, after = ((y.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt() for y in (reference, x))
    return x * (before / after).clamp(max=1)


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
    """Arguments as in `vectorized.camera_gdn`; returns (B,T,S,h,D) fp32 and the state after the last frame."""
    q, k, v, beta = q.float(), k.float(), v.float(), beta.float()
    to_ray, from_ray, rotary = rays
    q_ray = transform(q, to_ray.transpose(-1, -2), rotary)
    k_ray, v_ray = transform(k, from_ray, rotary), transform(v, from_ray, rotary)
    if renormalize:
        q_ray, k_ray, v_ray = renormalize_to(q, q_ray), renormalize_to(k, k_ray), renormalize_to(v, v_ray)
    longer = k_ray.norm(dim=-1).clamp(min=1e-6) / k.norm(dim=-1).clamp(min=1e-6)
    beta = beta / longer.square().mean(dim=2, keepdim=True).clamp(min=1)
    numerator, last = states(k_ray, v_ray, beta, decay, chunks, start)
    frames = [torch.einsum("bhij,bshi->bshj", state, q_ray[:, t]) for t, state in enumerate(numerator)]
    return transform(torch.stack(frames, dim=1), to_ray, rotary.conj()), last
