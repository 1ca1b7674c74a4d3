# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums over the tokens of a frame in Triton: Gram matrices, updates of the state, and the gradient of what is read."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from .shipped import launch, shipped_builds
from .tiles import PLAIN, RAY, TURNED, Tables, encoded, loaded, padded, place_of, product


@triton.jit
def products_kernel(
    left, right, weight, matrix, rotary, out, sums, T, S, H,
    left_row, left_head, right_row, right_head, out_place, out_row, sums_place, sums_row,
    D: tl.constexpr, DP: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
    MODE: tl.constexpr, RIGHT_MODE: tl.constexpr, TRANSPOSED: tl.constexpr, SUMS: tl.constexpr, PRODUCTS: tl.constexpr,
    CAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out (B,T,H,D,D) = sum over tokens of weight * left right^T, COLUMNS of it; sums (B,T,H,D,16) of weight * left."""
    batch, frame, head, place = place_of(T, H)
    first_row = (batch * T + frame) * S
    channels = tl.arange(0, DP)
    first_column = tl.program_id(1) * COLUMNS
    columns = first_column + tl.arange(0, COLUMNS)
    total = tl.zeros((DP, COLUMNS), tl.float32)
    sum_of_left = tl.zeros((DP,), tl.float32)
    for first in range(0, S, BLOCK):
        token = first + tl.arange(0, BLOCK).to(tl.int64)
        inside, table_row = token < S, frame * S + token
        rows = first_row + token
        factor = tl.load(weight + rows * H + head, mask=inside, other=0.0).to(tl.float32)
        x = loaded(left + head * left_head, rows, inside, left_row, channels, D)
        x = encoded(x, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, TRANSPOSED, False)
        x *= factor[:, None]
        if PRODUCTS:
            y = loaded(right + head * right_head, rows, inside, right_row, columns, D)
            y = encoded(
                y,
                matrix,
                rotary,
                batch * T * S,
                table_row,
                inside,
                first_column,
                D,
                RIGHT_MODE,
                TRANSPOSED,
                False,
            )
            total = product(tl.trans(x), y, total, CAST, PRECISION)
        if SUMS:
            sum_of_left += tl.sum(x, axis=0)
    if PRODUCTS:
        seen = (channels < D)[:, None] & (columns < D)[None]
        tl.store(out + place * out_place + channels[:, None] * out_row + columns[None], total, mask=seen)
    if SUMS:
        column = tl.arange(0, 16)
        padded_sum = tl.where((column == 0)[None], sum_of_left[:, None], 0.0)
        at = sums + place * sums_place + channels[:, None] * sums_row + column[None]
        tl.store(at, padded_sum, mask=((channels < D) & (first_column == 0))[:, None])


def products(
    left: Tensor,
    right: Tensor,
    weight: Tensor,
    tables: Tables | None,
    out: Tensor | None,
    sums: Tensor | None = None,
    *,
    modes: tuple[int, int],
    of_queries: bool = False,
) -> None:
    """Write sums over each frame's tokens.

    Args:
        left, right: (B,T,S,h,D) tokens in even steps.
        weight: (B,T,S,h), contiguous.
        tables: None if both modes are `PLAIN`.
        out: (B,T,h,D,D) fp32 view, the sum of weight * left right^T; None to leave out.
        sums: (B,T,h,D,16) fp32 view, the sum of weight * left in its first column and zeros beside it.
        modes: how left and right are encoded.
        of_queries: both by the ray matrices of queries, not by those of keys and values.
    """
    batch, frames, cells, heads, width = left.shape
    matrix = None if tables is None else tables.to_ray if of_queries else tables.from_ray
    tile = launch("products", left)
    parts = 1 if out is None else triton.cdiv(width, tile["COLUMNS"])
    products_kernel[batch * frames * heads, parts](
        left, right, weight, matrix, None if tables is None else tables.rotary, out, sums, frames, cells, heads,
        left.stride(2), left.stride(3), right.stride(2), right.stride(3),
        0 if out is None else out.stride(2), 0 if out is None else out.stride(3),
        0 if sums is None else sums.stride(2), 0 if sums is None else sums.stride(3),
        D=width, DP=padded(width), MODE=modes[0], RIGHT_MODE=modes[1], TRANSPOSED=of_queries,
        SUMS=sums is not None, PRODUCTS=out is not None, **tile,
    )  # fmt: skip


def builds() -> list[Build]:
    """For heads of 112 channels: what both branches launch, forward and backward."""
    variants = (
        ("Gram matrix, rotated", (TURNED, TURNED), False, False),
        ("Gram matrix and sums", (PLAIN, PLAIN), False, True),
        ("rotated keys and values", (TURNED, PLAIN), False, False),
        ("in ray coordinates", (RAY, RAY), False, False),
        ("queries in ray coordinates", (RAY, RAY), True, False),
    )
    strides = (
        "left_row",
        "left_head",
        "right_row",
        "right_head",
        "out_place",
        "out_row",
        "sums_place",
        "sums_row",
    )
    made = []
    for name, (mode, right_mode), of_queries, with_sums in variants:
        constants = {"MODE": mode, "RIGHT_MODE": right_mode, "TRANSPOSED": of_queries}
        constants |= {"SUMS": with_sums, "PRODUCTS": True}
        made += shipped_builds(
            "products", f"products, {name}", products_kernel, constants, ("left", "right"), strides, {}
        )
    return made
