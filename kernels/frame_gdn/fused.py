# SPDX-License-Identifier: GPL-3.0-or-later
"""Frame-wise Gated DeltaNet in Triton: products of every frame, a scan over frames, a read for every token."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .products import products
from .read import query_gradients, read
from .scan import SLICE, scan
from .tiles import PLAIN, RAY, Tables, check, dense_rows
from .token_gradients import key_and_value_gradients


class GatedDelta(torch.autograd.Function):
    """The recurrence of both branches.

    Arguments: q, k, v (B,T,S,h,D) in even steps; gram_weight, update_weight (B,T,S,h) fp32, which are beta or what
    became of it; factor (B,T,S,h) fp32 of the output, None with a normaliser; decay (B,T,h) fp32; start (B,h,D,E)
    fp32; tables; chunks as pairs of bounds. Returns (B,T,S,h,D) and the last state (B,h,D,E).
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        gram_weight: Tensor,
        update_weight: Tensor,
        factor: Tensor | None,
        decay: Tensor,
        start: Tensor,
        tables: Tables,
        bounds: tuple[tuple[int, int], ...],
    ) -> tuple[Tensor, Tensor]:
        normalizes = factor is None
        batch, frames, _, heads, width = k.shape
        columns = width + SLICE if normalizes else width
        buffer = {"dtype": torch.float32, "device": k.device}
        gram = torch.empty(batch, frames, heads, 2 if normalizes else 1, width, width, **buffer)
        update = torch.empty(batch, frames, heads, width, columns, **buffer)
        mode = tables.mode
        products(k, k, gram_weight, tables, gram[:, :, :, 0], modes=(mode, mode))
        value_mode = RAY if mode == RAY else PLAIN
        products(k, v, update_weight, tables, update[..., :width], modes=(mode, value_mode))
        if normalizes:
            of_ones = update[..., width:]
            products(k, k, gram_weight, None, gram[:, :, :, 1], of_ones, modes=(PLAIN, PLAIN))
        begins, ends = _resets(bounds, k.device)
        states = scan(gram, update, decay, ends, start)
        out = read(q, factor, tables, states, ends)
        ctx.save_for_backward(q, k, v, gram_weight, update_weight, factor, decay, start, gram, states, out)
        ctx.tables, ctx.begins, ctx.ends = tables, begins, ends
        return out, states[0, :, -1].clone()

    @staticmethod
    def backward(ctx: Any, out_grads: Tensor, last_grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, gram_weight, update_weight, factor, decay, start, gram, states, out = ctx.saved_tensors
        tables, width = ctx.tables, k.shape[-1]
        out_grads = dense_rows(out_grads)
        query_grads, weights, left_over = query_gradients(q, factor, tables, states, ctx.ends, out, out_grads)
        read_grads = torch.empty_like(states[0])
        mode = tables.mode
        grad_mode = RAY if mode == RAY else PLAIN
        modes = mode, grad_mode
        products(q, out_grads, weights, tables, read_grads[..., :width], modes=modes, of_queries=True)
        if factor is None:
            products(q, q, left_over, None, None, read_grads[..., width:], modes=(PLAIN, PLAIN))
        forward, backward = scan(gram, read_grads, decay, ctx.begins, last_grads.contiguous(), adjoint=True)
        inner = (1 - ctx.begins).view(-1, 1, 1, 1)
        before = torch.cat([start[:, None], states[0][:, :-1]], dim=1)
        after = torch.nn.functional.pad(backward[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0)) * inner
        # R of the frame before stands at this frame; its own R stands at the frame after, if that is in the chunk.
        behind = torch.nn.functional.pad(states[1][:, 1:], (0, 0, 0, 0, 0, 0, 0, 1)) * (1 - ctx.ends).view(
            -1, 1, 1, 1
        )
        transition_grads = _outer(forward, before, width) + _outer(after, behind, width)
        gate = decay[..., None, None, None]
        identity = torch.eye(width, device=k.device)
        decay_grads = (transition_grads * (identity - gram)).sum(dim=(3, 4, 5))
        gram_grads = -gate * (transition_grads + transition_grads.transpose(-1, -2))
        update_grads = forward + after
        start_grads = _applied(gram[:, 0], forward[:, 0], decay[:, 0], width)
        key_grads, value_grads, gram_weight_grads, update_weight_grads = key_and_value_gradients(
            k, v, gram_weight, update_weight, tables, gram_grads, update_grads
        )
        factor_grads = None if factor is None else left_over
        return (
            query_grads, key_grads, value_grads, gram_weight_grads, update_weight_grads, factor_grads, decay_grads,
            start_grads, None, None,
        )  # fmt: skip


def _outer(grads: Tensor, states: Tensor, width: int) -> Tensor:
    """Gradients of transitions (B,T,h,N,D,D) from those of what they led to and what they were applied to (.,D,E)."""
    of_values = grads[..., :width] @ states[..., :width].transpose(-1, -2)
    if grads.shape[-1] == width:
        return of_values.unsqueeze(3)
    of_ones = grads[..., width:] @ states[..., width:].transpose(-1, -2)
    return torch.stack([of_values, of_ones], dim=3)


def _applied(gram: Tensor, state: Tensor, decay: Tensor, width: int) -> Tensor:
    """g (1 - Gram) state; gram (B,h,N,D,D), state (B,h,D,E), decay (B,h)."""
    moved = [gram[:, :, 0] @ state[..., :width]]
    if state.shape[-1] > width:
        moved.append(gram[:, :, 1] @ state[..., width:])
    return decay[..., None, None] * (state - torch.cat(moved, dim=-1))


@lru_cache(maxsize=64)
def _resets(bounds: tuple[tuple[int, int], ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """(T,) int32: 1 for the first frames of chunks, 1 for the last ones."""
    begins, ends = torch.zeros(2, bounds[-1][1], dtype=torch.int32)
    begins[[begin for begin, _ in bounds]] = 1
    ends[[end - 1 for _, end in bounds]] = 1
    return begins.to(device), ends.to(device)


def chunk_bounds(chunks: Sequence[slice] | None, frames: int) -> tuple[tuple[int, int], ...]:
    return ((0, frames),) if chunks is None else tuple((chunk.start, chunk.stop) for chunk in chunks)


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
    """As `vectorized.frame_gdn`; q, k and v may be slices of one projection.

    Raises:
        ValueError: heads of a width, or a dtype, that the kernels are not made for.
    """
    check(q, k, v)
    batch, frames, _, heads, width = k.shape
    if start is None:
        packed = torch.zeros(batch, heads, width, width + SLICE, device=k.device)
    else:
        packed = torch.nn.functional.pad(torch.cat(start, dim=-1), (0, SLICE - 1))
    tables = Tables(torch.view_as_real(rotary).contiguous())
    tokens = dense_rows(q), dense_rows(k), dense_rows(v)
    weight = beta.float().contiguous()
    bounds = chunk_bounds(chunks, frames)
    out, last = GatedDelta.apply(*tokens, weight, weight, None, decay.contiguous(), packed, tables, bounds)
    return out, (last[..., :width], last[..., width : width + 1])
