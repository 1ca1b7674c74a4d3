# SPDX-License-Identifier: GPL-3.0-or-later
"""Unified camera positional encoding: half of a head's channels times a matrix of its ray, the other half turned.

`rays` is world to ray P (B,T,S,4,4) fp32, its inverse, and a rotary table (T,S,D/4) complex64. Tokens x are
(B,T,S,h,D), contiguous along D, and so are the results, in x's dtype. Matrices are applied in it, too.
"""

import torch
from torch import Tensor

from ..tokens import rotated, squared_length

Rays = tuple[Tensor, Tensor, Tensor]


def rays_at(rays: Rays, frames: slice) -> Rays:
    """The same for some of the frames."""
    to_ray, from_ray, rotary = rays
    return to_ray[:, frames], from_ray[:, frames], rotary[frames]


def encode_query(x: Tensor, rays: Rays, renormalize: bool) -> Tensor:
    """To ray coordinates by P transposed; with `renormalize`, no head becomes longer."""
    return _encoded(x, rays[0].mT, rays[2], renormalize)


def encode_key_or_value(x: Tensor, rays: Rays, renormalize: bool) -> Tensor:
    """To ray coordinates by P's inverse; with `renormalize`, no head becomes longer."""
    return _encoded(x, rays[1], rays[2], renormalize)


def decode(x: Tensor, rays: Rays) -> Tensor:
    """What attention read in ray coordinates, back in the world's: by P, and turned back."""
    return _transformed(x, rays[0], rays[2].conj())


def _transformed(x: Tensor, matrix: Tensor, rotary: Tensor) -> Tensor:
    """Groups of 4 channels of the first half times their token's matrix; adjacent pairs of the second half turned."""
    of_matrix, of_rotary = x.chunk(2, dim=-1)
    groups = of_matrix.reshape(*x.shape[:3], -1, 4)
    projected = (groups @ matrix.to(x.dtype).mT).view_as(of_matrix)
    return torch.cat([projected, rotated(of_rotary, rotary)], dim=-1)


def _encoded(x: Tensor, matrix: Tensor, rotary: Tensor, renormalize: bool) -> Tensor:
    ray = _transformed(x, matrix, rotary)
    if not renormalize:
        return ray
    before, after = (squared_length(tensor) / x.shape[-1] + 1e-6 for tensor in (x, ray))
    factor = (before / after).sqrt().clamp(max=1)
    return (ray * factor).to(x.dtype) if torch.is_grad_enabled() else ray.mul_(factor)
