# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch in torch: a few frames at a time into ray coordinates and back, in fp32. Differentiable."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..frame_gdn.vectorized import portions, scan


def transformed(x: Tensor, matrix: Tensor, rotary: Tensor) -> Tensor:
    """Groups of 4 of the first half of x (B,T,S,h,D) times matrix (B,T,S,4,4), second half turned by (T,S,D/4).

    The matrices are applied in x's dtype, the rotation in fp32; the result has x's dtype.
    """
    half = x.shape[-1] // 2
    grouped = x[..., :half].unflatten(-1, (-1, 4)).flatten(3, 4)
    moved = (grouped @ matrix.to(x.dtype).transpose(-1, -2)).view(*x.shape[:-1], half)
    pairs = torch.view_as_complex(x[..., half:].float().unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(pairs * rotary[:, :, None]).flatten(-2).to(x.dtype)
    return torch.cat([moved, turned], dim=-1)


def shortened(x: Tensor, reference: Tensor) -> Tensor:
    """Every head of x scaled down to the root mean square of `reference`, never up; x is overwritten without
    gradients."""
    before, after = (_mean_square(tensor) + 1e-6 for tensor in (reference, x))
    factor = (before / after).sqrt().clamp(max=1)
    return (x * factor).to(x.dtype) if torch.is_grad_enabled() else x.mul_(factor)


def _mean_square(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square() / x.shape[-1]


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
    """As the package's `camera_gdn`."""
    to_ray, from_ray, rotary = rays

    def in_ray(x: Tensor, matrix: Tensor, frames: slice) -> Tensor:
        plain = x[:, frames].float()
        moved = transformed(plain, matrix[:, frames], rotary[frames])
        return shortened(moved, plain) if renormalize else moved

    products = []
    for frames in portions(v):
        keys = in_ray(k, from_ray, frames)
        length, ray_length = (_mean_square(x).clamp(min=1e-14) for x in (k[:, frames], keys))
        inflation = (ray_length / length).mean(dim=2, keepdim=True).clamp(min=1)
        weighted = (keys * (beta[:, frames].float().unsqueeze(-1) / inflation)).permute(0, 1, 3, 4, 2)
        keys, values = keys.transpose(2, 3), in_ray(v, from_ray, frames).transpose(2, 3)
        products.append((weighted @ keys, weighted @ values))
    states, last = scan(products, decay, chunks, start)
    out = torch.empty_like(v)
    for frames in portions(v):
        queries = in_ray(q, to_ray.transpose(-1, -2), frames).transpose(2, 3)
        read = (queries @ states[:, frames]).transpose(2, 3)
        out[:, frames] = transformed(read, to_ray[:, frames], rotary[frames].conj())
    return out, last
