# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators on tokens (B,T,S,h,D) share: batch, latent frame, cell of the frame, head, channel of the head."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Elements of one tensor at a time: what a CPU's cache holds, a bounded buffer on other devices.
_CPU_PORTION, _DEVICE_PORTION = 1 << 18, 1 << 26


def portions(x: Tensor) -> list[slice]:
    """Slices of the frame axis of x (B,T,...) that are worked on at once."""
    frames, portion = x.shape[1], _CPU_PORTION if x.device.type == "cpu" else _DEVICE_PORTION
    step = max(1, portion * frames // x.numel())
    return [slice(start, min(start + step, frames)) for start in range(0, frames, step)]


def in_portions(*tensors: Tensor) -> Iterator[tuple]:
    """Slices of the frame axis as `portions` has them, each with that part of all tensors (B,T,...).

    The parts' gradients are joined once, where slices of one's own would each make a gradient of all frames.
    """
    at = portions(tensors[0])
    frames = [part.stop - part.start for part in at]
    return zip(at, *(x.split(frames, dim=1) for x in tensors), strict=True)


def heads_apart(x: Tensor) -> Tensor:
    """x (B,T,S,h,D) in fp32 with heads outside cells in memory, so that products of heads need no copies."""
    return x.float().transpose(2, 3).contiguous().transpose(2, 3)


def rotated(x: Tensor, rotary: Tensor) -> Tensor:
    """Turn adjacent channel pairs of x (B,T,S,h,D) by rotary (T,S,D/2) complex64, in fp32; the result has x's dtype."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotary[:, :, None]).flatten(-2).to(x.dtype)


def squared_length(x: Tensor) -> Tensor:
    """Sum of squares over channels, (...,D) -> (...,1) fp32."""
    return _SquaredLength.apply(x)


class _SquaredLength(torch.autograd.Function):
    """Without a tensor of squares forward, and with one product backward, where a length needs its own inverse."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (x * (2 * grads)).to(x.dtype)
