# SPDX-License-Identifier: GPL-3.0-or-later
"""What every query reads of its frame's state in Triton, and the gradients of it."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from .products import TENSOR_CORES
from .tiles import EPSILON, PLAIN, RAY, TURNED, Tables, arithmetic, encoded, loaded, padded, place_of, product, stored


@triton.jit
def _state_of(states, place, direction, frame, T, H, last, rows, columns, D: tl.constexpr, E: tl.constexpr):
    """Forward state of a frame plus backward state behind it; nothing is behind the last frame of a chunk."""
    seen = (rows < D)[:, None] & (columns < E)[None]
    at = rows[:, None] * E + columns[None]
    state = tl.load(states + place * D * E + at, mask=seen, other=0.0)
    behind = states + direction + (place + H) * D * E
    return state + tl.load(behind + at, mask=seen & (last == 0), other=0.0)


@triton.jit
def read_kernel(
    queries, factor, matrix, rotary, states, lasts, out, T, S, H,
    query_row, query_head, direction,
    D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, BLOCK: tl.constexpr, MODE: tl.constexpr,
    CAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out (B,T,S,H,D) = encoded q times its frame's state, over q times its normaliser or times factor and decoded."""
    batch, frame, head, place = place_of(T, H)
    channels = tl.arange(0, DP)
    last = tl.load(lasts + frame)
    state = _state_of(states, place, direction, frame, T, H, last, channels, channels, D, E)
    state = tl.where((channels < D)[None], state, 0.0).to(CAST)
    if E > D:
        ones = tl.sum(_state_of(states, place, direction, frame, T, H, last, channels, D + tl.arange(0, 16), D, E), 1)
    for first in range(tl.program_id(1) * BLOCK, S, tl.num_programs(1) * BLOCK):
        token = first + tl.arange(0, BLOCK).to(tl.int64)
        inside, table_row = token < S, frame * S + token
        rows = (batch * T + frame) * S + token
        q = loaded(queries + head * query_head, rows, inside, query_row, channels, D)
        if E > D:
            denominator = tl.sum(q * ones[None], axis=1) + EPSILON
        q = encoded(q, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, True, False)
        x = product(q, state, tl.zeros((BLOCK, DP), tl.float32), CAST, PRECISION)
        if E > D:
            x = x / denominator[:, None]
        else:
            x *= tl.load(factor + rows * H + head, mask=inside, other=0.0)[:, None]
            x = encoded(x, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, False, True)
        stored(out + head * D, rows, inside, H * D, channels, x, D)


@triton.jit
def read_gradients_kernel(
    queries, factor, matrix, rotary, states, lasts, out_grads, query_grads, weights, weight_grads, T, S, H,
    query_row, query_head, grad_row, grad_head, direction,
    D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, BLOCK: tl.constexpr, MODE: tl.constexpr,
    CAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of queries (B,T,S,H,D), and per token (B,T,S,H) what the state's gradient sums with.

    With a normaliser: weights = 1 / denominator, weight_grads = gradient of the denominator. Without: weight_grads =
    gradient of the factor.
    """
    batch, frame, head, place = place_of(T, H)
    channels = tl.arange(0, DP)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    inside, table_row = token < S, frame * S + token
    rows = (batch * T + frame) * S + token
    last = tl.load(lasts + frame)
    state = _state_of(states, place, direction, frame, T, H, last, channels, channels, D, E)
    state = tl.where((channels < D)[None], state, 0.0).to(CAST)
    plain = loaded(queries + head * query_head, rows, inside, query_row, channels, D)
    g = loaded(out_grads + head * grad_head, rows, inside, grad_row, channels, D)
    q = encoded(plain, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, True, False)
    read = product(q, state, tl.zeros((BLOCK, DP), tl.float32), CAST, PRECISION)
    at = rows * H + head
    if E > D:
        ones = tl.sum(_state_of(states, place, direction, frame, T, H, last, channels, D + tl.arange(0, 16), D, E), 1)
        inverse = 1 / (tl.sum(plain * ones[None], axis=1) + EPSILON)
        of_denominator = -tl.sum(g * read, axis=1) * inverse * inverse
        g *= inverse[:, None]
        tl.store(weights + at, inverse, mask=inside)
        tl.store(weight_grads + at, of_denominator, mask=inside)
    else:
        g = encoded(g, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, True, False)
        tl.store(weight_grads + at, tl.sum(g * read, axis=1), mask=inside)
        g *= tl.load(factor + at, mask=inside, other=0.0)[:, None]
    x = product(g, tl.trans(state), tl.zeros((BLOCK, DP), tl.float32), CAST, PRECISION)
    x = encoded(x, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, False, True)
    if E > D:
        x += of_denominator[:, None] * ones[None]
    stored(query_grads + head * D, rows, inside, H * D, channels, x, D)


def read(q: Tensor, factor: Tensor | None, tables: Tables, states: Tensor, lasts: Tensor) -> Tensor:
    """What queries (B,T,S,h,D) read of states (2,B,T,h,D,E): (B,T,S,h,D) in q's dtype.

    Args:
        factor: (B,T,S,h) fp32, contiguous, by which the output is multiplied; None with a normaliser.
        lasts: (T,) int32, 1 for the last frame of a chunk.
    """
    batch, frames, cells, heads, width = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    config = _config(q)
    tiles = triton.cdiv(cells, config["BLOCK"])
    read_kernel[batch * frames * heads, min(tiles, PROGRAMS_OF_A_FRAME)](
        q, factor, tables.to_ray, tables.rotary, states, lasts, out, frames, cells, heads,
        q.stride(2), q.stride(3), states.stride(0),
        D=width, DP=padded(width), E=states.shape[-1], MODE=tables.mode, **config,
    )  # fmt: skip
    return out


def read_gradients(
    q: Tensor, factor: Tensor | None, tables: Tables, states: Tensor, lasts: Tensor, out_grads: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, the weights of the state's gradient, and what is left: of the denominator or of the factor."""
    batch, frames, cells, heads, width = q.shape
    query_grads = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    weight_grads = torch.empty(batch, frames, cells, heads, dtype=torch.float32, device=q.device)
    weights = torch.empty_like(weight_grads) if factor is None else factor
    config = _config(q)
    read_gradients_kernel[batch * frames * heads, triton.cdiv(cells, config["BLOCK"])](
        q, factor, tables.to_ray, tables.rotary, states, lasts, out_grads, query_grads, weights, weight_grads,
        frames, cells, heads, q.stride(2), q.stride(3), out_grads.stride(2), out_grads.stride(3), states.stride(0),
        D=width, DP=padded(width), E=states.shape[-1], MODE=tables.mode, **config,
    )  # fmt: skip
    return query_grads, weights, weight_grads


# One program reads every fourth tile of a frame, with the frame's state kept at hand.
PROGRAMS_OF_A_FRAME = 4


def _config(x: Tensor) -> dict[str, Any]:
    return {"BLOCK": 32 if x.dtype == torch.bfloat16 else 16, "num_warps": 8, "num_stages": 1, **arithmetic(x)}


def builds() -> list[Build]:
    """For heads of 112 channels, both branches, forward and backward."""
    made = []
    for kind, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        for branch, columns, mode in (("main", 128, TURNED), ("camera", 112, RAY)):
            for name, kernel in (("read", read_kernel), ("gradients of the read", read_gradients_kernel)):
                config = _config(torch.empty(0, dtype=dtype))
                warps, stages = config.pop("num_warps"), config.pop("num_stages")
                types = dict.fromkeys(("queries", "out", "out_grads", "query_grads"), f"*{kind}")
                types |= dict.fromkeys(("factor", "matrix", "rotary", "states", "weights", "weight_grads"), "*fp32")
                types |= {"lasts": "*i32", "T": "i32", "S": "i32", "H": "i32", "direction": "i64"}
                strides = ("query_row", "query_head", "grad_row", "grad_head")
                types |= dict.fromkeys(strides, "i32")
                made.append(
                    Build(
                        f"frame_gdn {name}, {branch}, {kind}",
                        kernel,
                        {name: types[name] for name in kernel.arg_names if name in types},
                        {"D": 112, "DP": 128, "E": columns, "MODE": mode, **config},
                        TENSOR_CORES[kind],
                        warps,
                        stages,
                        aligned=(*strides, "direction"),
                    )
                )
    return made
