# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch in Triton: every kernel moves its tiles into ray coordinates itself, no encoded copy exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from ..frame_gdn.fused import GatedDelta, chunk_bounds
from ..frame_gdn.tiles import RAY, Tables, check, dense_rows, encoded, loaded, padded, place_of, stored

_BLOCK, _WARPS = 32, 8


@triton.jit
def squared_lengths_kernel(
    x, matrix, rotary, out, T, S, H, x_row, x_head, part,
    D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, MODE: tl.constexpr, OF_QUERIES: tl.constexpr,
):  # fmt: skip
    """out (2,B,T,S,H): squared lengths of x and of x in ray coordinates."""
    batch, frame, head, place = place_of(T, H)
    channels = tl.arange(0, DP)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    inside, table_row = token < S, frame * S + token
    rows = (batch * T + frame) * S + token
    tile = loaded(x + head * x_head, rows, inside, x_row, channels, D)
    tl.store(out + rows * H + head, tl.sum(tile * tile, axis=1), mask=inside)
    tile = encoded(tile, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, OF_QUERIES, False)
    tl.store(out + part + rows * H + head, tl.sum(tile * tile, axis=1), mask=inside)


@triton.jit
def squared_lengths_gradient_kernel(
    x, matrix, rotary, out_grads, x_grads, T, S, H, x_row, x_head, part,
    D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, MODE: tl.constexpr, OF_QUERIES: tl.constexpr,
):  # fmt: skip
    batch, frame, head, place = place_of(T, H)
    channels = tl.arange(0, DP)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    inside, table_row = token < S, frame * S + token
    rows = (batch * T + frame) * S + token
    plain = loaded(x + head * x_head, rows, inside, x_row, channels, D)
    at = out_grads + rows * H + head
    of_plain = tl.load(at, mask=inside, other=0.0)
    of_encoded = tl.load(at + part, mask=inside, other=0.0)
    tile = encoded(plain, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, OF_QUERIES, False)
    tile *= 2 * of_encoded[:, None]
    tile = encoded(tile, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, not OF_QUERIES, True)
    tile += 2 * of_plain[:, None] * plain
    stored(x_grads + head * D, rows, inside, H * D, channels, tile, D)


class SquaredLengths(torch.autograd.Function):
    """x (B,T,S,h,D) -> (2,B,T,S,h) fp32: squared lengths as it is, and in ray coordinates."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tables: Tables, of_queries: bool) -> Tensor:
        out = torch.empty(2, *x.shape[:-1], dtype=torch.float32, device=x.device)
        SquaredLengths._launch(squared_lengths_kernel, x, tables, of_queries, out)
        ctx.save_for_backward(x)
        ctx.tables, ctx.of_queries = tables, of_queries
        return out

    @staticmethod
    def backward(ctx: Any, out_grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        x_grads = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        given = ctx.tables, ctx.of_queries, out_grads.contiguous(), x_grads
        SquaredLengths._launch(squared_lengths_gradient_kernel, x, *given)
        return x_grads, None, None

    @staticmethod
    def _launch(kernel: Any, x: Tensor, tables: Tables, of_queries: bool, *buffers: Tensor) -> None:
        batch, frames, cells, heads, width = x.shape
        kernel[batch * frames * heads, triton.cdiv(cells, _BLOCK)](
            x, tables.to_ray if of_queries else tables.from_ray, tables.rotary, *buffers, frames, cells, heads,
            x.stride(2), x.stride(3), buffers[0].stride(0), D=width, DP=padded(width), BLOCK=_BLOCK, MODE=RAY,
            OF_QUERIES=of_queries, num_warps=_WARPS,
        )  # fmt: skip


def _shortening(squared_lengths: Tensor, width: int) -> Tensor:
    """What scales encoded tokens down to the root mean square that they had before, never up: (B,T,S,h)."""
    before, after = squared_lengths / width + 1e-6
    return (before / after).sqrt().clamp(max=1)


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
    """As `vectorized.camera_gdn`; q, k and v may be slices of one projection.

    Raises:
        ValueError: heads of a width, or a dtype, that the kernels are not made for.
    """
    check(q, k, v)
    to_ray, from_ray, rotary = rays
    batch, frames, _, heads, width = k.shape
    if start is None:
        start = torch.zeros(batch, heads, width, width, device=k.device)
    tables = Tables(torch.view_as_real(rotary).contiguous(), to_ray.contiguous(), from_ray.contiguous())
    q, k, v = dense_rows(q), dense_rows(k), dense_rows(v)
    lengths = SquaredLengths.apply(k, tables, False)
    of_query = of_key = of_value = torch.ones_like(lengths[0])
    if renormalize:
        of_query = _shortening(SquaredLengths.apply(q, tables, True), width)
        of_key = _shortening(lengths, width)
        of_value = _shortening(SquaredLengths.apply(v, tables, False), width)
    length, ray_length = lengths.clamp(min=1e-12)
    inflation = (ray_length * of_key.square() / length).mean(dim=2, keepdim=True)
    weight = beta.float() / inflation.clamp(min=1)
    weights = (weight * of_key.square()).contiguous(), (weight * of_key * of_value).contiguous()
    bounds = chunk_bounds(chunks, frames)
    return GatedDelta.apply(
        q, k, v, *weights, of_query.contiguous(), decay.contiguous(), start, tables, bounds
    )


def builds() -> list[Build]:
    """Lengths for heads of 112 channels; the other kernels of this branch are built in `frame_gdn`."""
    made = []
    for kind in ("bf16", "fp32"):
        for name, kernel in (
            ("squared lengths", squared_lengths_kernel),
            ("gradient of squared lengths", squared_lengths_gradient_kernel),
        ):
            types = dict.fromkeys(("x", "x_grads"), f"*{kind}")
            types |= dict.fromkeys(("matrix", "rotary", "out", "out_grads"), "*fp32")
            types |= dict.fromkeys(("T", "S", "H", "x_row", "x_head", "part"), "i32")
            made.append(
                Build(
                    f"camera gated delta {name}, {kind}",
                    kernel,
                    {key: types[key] for key in kernel.arg_names if key in types},
                    {"D": 112, "DP": 128, "BLOCK": _BLOCK, "MODE": RAY, "OF_QUERIES": False},
                    dict.fromkeys((80, 90, 100, 120), ""),
                    _WARPS,
                    aligned=("x_row", "x_head", "part"),
                )
            )
    return made
