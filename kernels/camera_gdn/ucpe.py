# SPDX-License-Identifier: GPL-3.0-or-later
"""Unified camera positional encoding: half of a head's channels times a matrix of its ray, the other half turned."""

import torch
from torch import Tensor


def transformed(x: Tensor, matrix: Tensor, rotary: Tensor) -> Tensor:
    """Take tokens to other coordinates.

    Args:
        x: (B,T,S,h,D), its last axis contiguous. Groups of 4 channels of the first half are multiplied by their
            token's matrix, in x's dtype; adjacent pairs of the second half are turned, in fp32.
        matrix: (B,T,S,4,4).
        rotary: (T,S,D/4) complex64.

    Returns:
        (B,T,S,h,D) in x's dtype.
    """
    half = x.shape[-1] // 2
    groups = x[..., :half].reshape(*x.shape[:3], -1, 4)
    projected = (groups @ matrix.to(x.dtype).transpose(-1, -2)).view(*x.shape[:-1], half)
    pairs = torch.view_as_complex(x[..., half:].float().unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(pairs * rotary[:, :, None]).flatten(-2)
    return torch.cat([projected, turned.to(x.dtype)], dim=-1)


def renormalized(x: Tensor, reference: Tensor) -> Tensor:
    """Scale every head of x down to the root mean square of `reference`, never up.

    Both (B,T,S,h,D). x is overwritten where no gradients are recorded.
    """
    before, after = (length(tensor).square() / x.shape[-1] + 1e-6 for tensor in (reference, x))
    factor = (before / after).sqrt().clamp(max=1)
    return (x * factor).to(x.dtype) if torch.is_grad_enabled() else x.mul_(factor)


def length(x: Tensor) -> Tensor:
    """Of each head, (...,D) -> (...,1) fp32."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
