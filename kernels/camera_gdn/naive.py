# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch as its definition reads: into ray coordinates, the plain recurrence, and back, in fp32."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..frame_gdn.naive import rotate, states


def transformed(x: Tensor, matrix: Tensor, rotary: Tensor) -> Tensor:
    """x (B,T,S,h,D): groups of 4 of the first half times matrix (B,T,S,4,4), second half turned by (T,S,D/4)."""
    first, second = x.float().chunk(2, dim=-1)
    moved = torch.einsum("btsij,btshgj->btshgi", matrix, first.unflatten(-1, (-1, 4)))
    return torch.cat([moved.flatten(-2), rotate(second, rotary)], dim=-1)


def shortened(x: Tensor, reference: Tensor) -> Tensor:
    """Every head of x scaled down to the root mean square of `reference`, never up."""
    before, after = (y.square().mean(dim=-1, keepdim=True) + 1e-6 for y in (reference, x))
    return x * (before / after).sqrt().clamp(max=1)


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
    """As the package's `camera_gdn`, in fp32."""
    q, k, v = q.float(), k.float(), v.float()
    to_ray, from_ray, rotary = rays
    q_ray = transformed(q, to_ray.transpose(-1, -2), rotary)
    k_ray, v_ray = (transformed(x, from_ray, rotary) for x in (k, v))
    if renormalize:
        q_ray, k_ray, v_ray = shortened(q_ray, q), shortened(k_ray, k), shortened(v_ray, v)
    # A distant camera centre lengthens the keys; beta shrinks so that the recurrence stays stable.
    length, ray_length = (x.norm(dim=-1).clamp(min=1e-6) for x in (k, k_ray))
    beta = beta.float() / (ray_length / length).square().mean(dim=2, keepdim=True).clamp(min=1)
    numerator, last = states(k_ray, v_ray, beta, decay, chunks, start)
    frames = [torch.einsum("bhij,bshi->bshj", state, q_ray[:, t]) for t, state in enumerate(numerator)]
    return transformed(torch.stack(frames, dim=1), to_ray, rotary.conj()), last
