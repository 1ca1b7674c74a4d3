# SPDX-License-Identifier: GPL-3.0-or-later
"""What every query reads of its frame's state in Triton, and the gradients of it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from .shipped import launch, shipped_builds
from .tiles import (
    EPSILON,
    RAY,
    TURNED,
    Tables,
    encoded,
    loaded,
    padded,
    place_of,
    product,
    stored,
)


@triton.jit
def _state_of(states, place, behind, last, H, rows, columns, D: tl.constexpr, E: tl.constexpr):
    """Forward state of a frame plus backward state behind it; nothing is behind the last frame of a chunk."""
    seen = (rows < D)[:, None] & (columns < E)[None]
    at = rows[:, None] * E + columns[None]
    state = tl.load(states + place * D * E + at, mask=seen, other=0.0)
    return state + tl.load(states + behind + (place + H) * D * E + at, mask=seen & (last == 0), other=0.0)


@triton.jit
def read_kernel(
    queries, factor, matrix, rotary, states, lasts, out, T, S, H,
    query_row, query_head, behind,
    D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, MODE: tl.constexpr,
    CAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out (B,T,S,H,D) = encoded q times its frame's state, over q times its normaliser or times factor and decoded."""
    batch, frame, head, place = place_of(T, H)
    channels = tl.arange(0, DP)
    first_column = tl.program_id(2) * COLUMNS
    columns = first_column + tl.arange(0, COLUMNS)
    last = tl.load(lasts + frame)
    state = _state_of(states, place, behind, last, H, channels, columns, D, E).to(CAST)
    if E > D:
        ones = tl.sum(_state_of(states, place, behind, last, H, channels, D + tl.arange(0, 16), D, E), axis=1)
    for first in range(tl.program_id(1) * BLOCK, S, tl.num_programs(1) * BLOCK):
        token = first + tl.arange(0, BLOCK).to(tl.int64)
        inside, table_row = token < S, frame * S + token
        rows = (batch * T + frame) * S + token
        q = loaded(queries + head * query_head, rows, inside, query_row, channels, D)
        if E > D:
            denominator = tl.sum(q * ones[None], axis=1) + EPSILON
        q = encoded(q, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, True, False)
        x = product(q, state, tl.zeros((BLOCK, COLUMNS), tl.float32), CAST, PRECISION)
        if E > D:
            x = x / denominator[:, None]
        else:
            x *= tl.load(factor + rows * H + head, mask=inside, other=0.0)[:, None]
            x = encoded(
                x, matrix, rotary, batch * T * S, table_row, inside, first_column, D, MODE, False, True
            )
        stored(out + head * D, rows, inside, H * D, columns, x, D)


@triton.jit
def query_gradients_kernel(
    queries, factor, matrix, rotary, states, lasts, out, out_grads, query_grads, weights, weight_grads, T, S, H,
    query_row, query_head, grad_row, grad_head, behind,
    D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr, MODE: tl.constexpr,
    CAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of queries (B,T,S,H,D), and per token (B,T,S,H) what the gradients of the states are sums with.

    With a normaliser: weights = 1 / denominator, weight_grads = gradient of the denominator. Without: weight_grads =
    gradient of the factor.
    """
    batch, frame, head, place = place_of(T, H)
    channels = tl.arange(0, DP)
    first_column = tl.program_id(2) * COLUMNS
    columns = first_column + tl.arange(0, COLUMNS)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    inside, table_row = token < S, frame * S + token
    rows = (batch * T + frame) * S + token
    at = rows * H + head
    first_part = inside & (first_column == 0)
    last = tl.load(lasts + frame)
    g = loaded(out_grads + head * grad_head, rows, inside, grad_row, channels, D)
    of_out = tl.sum(g * loaded(out + head * D, rows, inside, H * D, channels, D), axis=1)
    if E > D:
        ones = tl.sum(_state_of(states, place, behind, last, H, channels, D + tl.arange(0, 16), D, E), axis=1)
        q = loaded(queries + head * query_head, rows, inside, query_row, channels, D)
        scale = 1 / (tl.sum(q * ones[None], axis=1) + EPSILON)
        of_scale = -of_out * scale
        tl.store(weights + at, scale, mask=first_part)
    else:
        scale = tl.load(factor + at, mask=inside, other=1.0)
        of_scale = of_out / scale
        g = encoded(g, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, True, False)
    tl.store(weight_grads + at, of_scale, mask=first_part)
    state = _state_of(states, place, behind, last, H, columns, channels, D, E)
    state = tl.where((channels < D)[None], state, 0.0).to(CAST)
    x = product(g * scale[:, None], tl.trans(state), tl.zeros((BLOCK, COLUMNS), tl.float32), CAST, PRECISION)
    x = encoded(x, matrix, rotary, batch * T * S, table_row, inside, first_column, D, MODE, False, True)
    if E > D:
        ones = tl.sum(_state_of(states, place, behind, last, H, columns, D + tl.arange(0, 16), D, E), axis=1)
        x += of_scale[:, None] * ones[None]
    stored(query_grads + head * D, rows, inside, H * D, columns, x, D)


def read(q: Tensor, factor: Tensor | None, tables: Tables, states: Tensor, lasts: Tensor) -> Tensor:
    """What queries (B,T,S,h,D) read of states (2,B,T,h,D,E): (B,T,S,h,D) in q's dtype.

    Args:
        factor: (B,T,S,h) fp32, contiguous, by which the output is multiplied; None with a normaliser.
        lasts: (T,) int32, 1 for the last frame of a chunk.
    """
    batch, frames, cells, heads, width = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    tile = launch("read", q)
    tiles = min(triton.cdiv(cells, tile["BLOCK"]), PROGRAMS_OF_A_FRAME)
    read_kernel[batch * frames * heads, tiles, triton.cdiv(width, tile["COLUMNS"])](
        q, factor, tables.to_ray, tables.rotary, states, lasts, out, frames, cells, heads,
        q.stride(2), q.stride(3), states.stride(0), D=width, DP=padded(width), E=states.shape[-1], MODE=tables.mode,
        **tile,
    )  # fmt: skip
    return out


def query_gradients(
    q: Tensor,
    factor: Tensor | None,
    tables: Tables,
    states: Tensor,
    lasts: Tensor,
    out: Tensor,
    out_grads: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, the weights of the states' gradient, and the gradient of the denominator or of the factor."""
    batch, frames, cells, heads, width = q.shape
    query_grads = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    weight_grads = torch.empty(batch, frames, cells, heads, dtype=torch.float32, device=q.device)
    weights = torch.empty_like(weight_grads) if factor is None else factor
    tile = launch("gradients", q)
    parts = triton.cdiv(cells, tile["BLOCK"]), triton.cdiv(width, tile["COLUMNS"])
    query_gradients_kernel[batch * frames * heads, *parts](
        q, factor, tables.to_ray, tables.rotary, states, lasts, out, out_grads, query_grads, weights, weight_grads,
        frames, cells, heads, q.stride(2), q.stride(3), out_grads.stride(2), out_grads.stride(3), states.stride(0),
        D=width, DP=padded(width), E=states.shape[-1], MODE=tables.mode, **tile,
    )  # fmt: skip
    return query_grads, weights, weight_grads


# A program reads every fourth tile of a frame, with the frame's state kept at hand.
PROGRAMS_OF_A_FRAME = 4


def builds() -> list[Build]:
    """For heads of 112 channels, both branches, forward and backward."""
    tokens, strides = ("queries", "out"), ("query_row", "query_head")
    more = {"lasts": "*i32", "behind": "i64"}
    made = []
    for branch, columns, mode in (("main", 128, TURNED), ("camera", 112, RAY)):
        constants = {"E": columns, "MODE": mode}
        made += shipped_builds("read", f"read, {branch}", read_kernel, constants, tokens, strides, more)
        made += shipped_builds(
            "gradients", f"gradients of queries, {branch}", query_gradients_kernel, constants,
            (*tokens, "out_grads", "query_grads"), (*strides, "grad_row", "grad_head"), more,
        )  # fmt: skip
    return made
