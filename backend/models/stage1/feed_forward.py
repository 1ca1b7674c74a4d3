# SPDX-License-Identifier: GPL-3.0-or-later
"""GLUMBConvTemp: a gated inverted bottleneck with a 3x3 depthwise convolution, then a temporal convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .carry import read
from .conditioning import Conditioning
from .context import FrameShare
from .layers import PointwiseConv

# The widest tensor of the model is made for so many elements at a time.
_ELEMENTS_AT_ONCE = 1 << 22


class Named(nn.Module):
    """Holds a convolution under the name `conv`, as the checkpoint has it."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class TemporalConv(nn.Module):
    """Dense 3-tap convolution along frames, without bias, added to its input.

    A frame sees the one before it, also in an earlier chunk, and the one after it in its own chunk; else zeros.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 1))
        nn.init.xavier_uniform_(self.weight)

    def forward(
        self, x: Tensor, chunks: Sequence[slice], tail: Tensor | None, context: FrameShare | None = None
    ) -> Tensor:
        """x (B,T,S,C), tail (B,1,S,C) the frame before x or None -> x + convolution(x), summed up in one buffer.

        With `context` x is a process's part of a clip.
        """
        if context is not None:
            return self(context.with_halo(x, 1, 1), context.chunks(1, 1), None)[:, 1:-1]
        taps = self.weight[..., 0].permute(2, 1, 0).contiguous()
        return _WithNeighbours.apply(x, taps, tail, chunks)


class _WithNeighbours(torch.autograd.Function):
    """x + convolution(x), and its gradients, each summed up in one buffer by the products of shifted rows.

    x (B,T,S,C), taps (3,C,C) for the frame before, the frame itself and the one after; tail (B,1,S,C) or
    None, which gets no gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, tail: Tensor | None, chunks: Sequence[slice]) -> Tensor:
        ctx.save_for_backward(x, taps, tail)
        ctx.shifts = list(_shifts(chunks, x.shape[2]))
        tokens, cells = x.flatten(0, 2), x.shape[2]
        out = torch.addmm(tokens, tokens, taps[1]).view_as(x)
        for entry in range(len(x)):
            source, target = x[entry].flatten(0, 1), out[entry].flatten(0, 1)
            for tap, here, there in ctx.shifts:
                target[here].addmm_(source[there], taps[tap])
            if tail is not None:
                target[:cells].addmm_(tail[entry, 0], taps[0])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_grads: Tensor) -> tuple[Tensor | None, ...]:
        x, taps, tail = ctx.saved_tensors
        tokens, grads, cells = x.flatten(0, 2), out_grads.flatten(0, 2), x.shape[2]
        x_grads = torch.addmm(grads, grads, taps[1].mT).view_as(x)
        tap_grads = torch.zeros_like(taps)
        tap_grads[1] = tokens.mT @ grads
        for entry in range(len(x)):
            source, target = x[entry].flatten(0, 1), x_grads[entry].flatten(0, 1)
            given = out_grads[entry].flatten(0, 1)
            for tap, here, there in ctx.shifts:
                target[there].addmm_(given[here], taps[tap].mT)
                tap_grads[tap].addmm_(source[there].mT, given[here])
            if tail is not None:
                tap_grads[0].addmm_(tail[entry, 0].mT, given[:cells])
        return x_grads, tap_grads, None, None


def _shifts(chunks: Sequence[slice], cells: int) -> Iterator[tuple[int, slice, slice]]:
    """Tap, rows of one clip that see others through it, and the rows that they see."""
    stop = chunks[-1].stop * cells
    yield 0, slice(cells, stop), slice(0, stop - cells)
    for chunk in chunks:
        first, last = chunk.start * cells, (chunk.stop - 1) * cells
        yield 2, slice(first, last), slice(first + cells, last + cells)


class GLUMBConvTemp(nn.Module):
    """Tokens (B,T,S,C) -> (B,T,S,C); space first, a few frames at a time, then time."""

    def __init__(self, hidden_size: int, mlp_hidden: int) -> None:
        super().__init__()
        wide = 2 * mlp_hidden
        self.inverted_conv = Named(PointwiseConv(hidden_size, wide, spatial_dims=2, bias=True))
        self.depth_conv = Named(nn.Conv2d(wide, wide, 3, padding=1, groups=wide))
        self.point_conv = Named(PointwiseConv(mlp_hidden, hidden_size, spatial_dims=2, bias=False))
        self.t_conv = TemporalConv(hidden_size)

    def forward(self, x: Tensor, shared: Conditioning, tail: Tensor | None, save: bool) -> Tensor:
        """`tail` (B,1,S,C) is carried from the chunk before, None at a clip's beginning; written to if `save`."""
        images = x.reshape(-1, *shared.grid[1:], x.shape[-1])
        wide = self.depth_conv.conv.out_channels
        images_at_once = max(1, _ELEMENTS_AT_ONCE // (math.prod(shared.grid[1:]) * wide))
        y = torch.cat([self._spatial(part) for part in images.split(images_at_once)]).view_as(x)
        out = self.t_conv(y, shared.chunks, None if tail is None else read(tail), shared.context)
        if save:
            tail.copy_(y[:, -1:].detach())
        return out

    def _spatial(self, images: Tensor) -> Tensor:
        hidden = F.silu(self.inverted_conv(images), inplace=not torch.is_grad_enabled())
        hidden = self.depth_conv(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.point_conv.conv.gated(hidden)
