# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradients of keys, values and their weights in Triton, from those of a frame's Gram matrix and update."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from .shipped import launch, shipped_builds
from .tiles import (
    PLAIN,
    RAY,
    TURNED,
    Tables,
    encoded,
    loaded,
    padded,
    place_of,
    product,
    square,
    stored,
)


@triton.jit
def value_gradients_kernel(
    keys, values, weight, matrix, rotary, update_grads, value_grads, weight_grads, T, S, H,
    key_row, key_head, value_row, value_head, update_row, part_of_grads,
    D: tl.constexpr, DP: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
    MODE: tl.constexpr, VALUE_MODE: tl.constexpr, CAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of update = sum of weight k v^T: gradients of values (B,T,S,H,D), and of the weight in parts (.,B,T,S,H)."""
    batch, frame, head, place = place_of(T, H)
    channels = tl.arange(0, DP)
    part = tl.program_id(2)
    columns = part * COLUMNS + tl.arange(0, COLUMNS)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    inside, table_row = token < S, frame * S + token
    rows = (batch * T + frame) * S + token
    k = loaded(keys + head * key_head, rows, inside, key_row, channels, D)
    k = encoded(k, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, False, False)
    grads = square(update_grads + place * D * update_row, update_row, channels, columns, D)
    x = product(k, grads, tl.zeros((BLOCK, COLUMNS), tl.float32), CAST, PRECISION)
    v = loaded(values + head * value_head, rows, inside, value_row, columns, D)
    v = encoded(
        v, matrix, rotary, batch * T * S, table_row, inside, part * COLUMNS, D, VALUE_MODE, False, False
    )
    at = rows * H + head
    tl.store(weight_grads + part * part_of_grads + at, tl.sum(x * v, axis=1), mask=inside)
    x *= tl.load(weight + at, mask=inside, other=0.0)[:, None]
    x = encoded(
        x, matrix, rotary, batch * T * S, table_row, inside, part * COLUMNS, D, VALUE_MODE, True, True
    )
    stored(value_grads + head * D, rows, inside, H * D, columns, x, D)


@triton.jit
def key_gradients_kernel(
    keys, values, gram_weight, update_weight, matrix, rotary, gram_grads, update_grads, key_grads, weight_grads,
    T, S, H, key_row, key_head, value_row, value_head, gram_place, update_row, part_of_grads,
    D: tl.constexpr, DP: tl.constexpr, COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
    MODE: tl.constexpr, VALUE_MODE: tl.constexpr, VALUES: tl.constexpr, CAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of Gram = sum of weight k k^T and the update: gradients of keys (B,T,S,H,D), of the Gram's weight in parts.

    gram_grads (B,T,H,D,D) is the gradient plus its transpose. Without VALUES, whose place ones take, the update's
    gradient is a vector, the gradient of its weight is in the Gram matrix's too, and what is in key_grads is added to.
    """
    batch, frame, head, place = place_of(T, H)
    channels = tl.arange(0, DP)
    part = tl.program_id(2)
    first_column = part * COLUMNS
    columns = first_column + tl.arange(0, COLUMNS)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    inside, table_row = token < S, frame * S + token
    rows = (batch * T + frame) * S + token
    keys += head * key_head
    k = loaded(keys, rows, inside, key_row, channels, D)
    k = encoded(k, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, False, False)
    grads = square(gram_grads + place * gram_place, D, channels, columns, D)
    x = product(k, grads, tl.zeros((BLOCK, COLUMNS), tl.float32), CAST, PRECISION)
    k = loaded(keys, rows, inside, key_row, columns, D)
    k = encoded(k, matrix, rotary, batch * T * S, table_row, inside, first_column, D, MODE, False, False)
    at = rows * H + head
    of_weight = 0.5 * tl.sum(x * k, axis=1)
    x *= tl.load(gram_weight + at, mask=inside, other=0.0)[:, None]
    factor = tl.load(update_weight + at, mask=inside, other=0.0)[:, None]
    update_grads += place * D * update_row
    if VALUES:
        v = loaded(values + head * value_head, rows, inside, value_row, channels, D)
        v = encoded(v, matrix, rotary, batch * T * S, table_row, inside, 0, D, VALUE_MODE, False, False)
        grads = square(update_grads, update_row, columns, channels, D)
        x = product(v * factor, tl.trans(grads), x, CAST, PRECISION)
    else:
        ones = tl.load(update_grads + columns * update_row, mask=columns < D, other=0.0)[None]
        of_weight += tl.sum(k * ones, axis=1)
        x += factor * ones
    tl.store(weight_grads + part * part_of_grads + at, of_weight, mask=inside)
    x = encoded(x, matrix, rotary, batch * T * S, table_row, inside, first_column, D, MODE, True, True)
    if not VALUES:
        x += loaded(key_grads + head * D, rows, inside, H * D, columns, D)
    stored(key_grads + head * D, rows, inside, H * D, columns, x, D)


def key_and_value_gradients(
    k: Tensor,
    v: Tensor,
    gram_weight: Tensor,
    update_weight: Tensor,
    tables: Tables,
    gram_grads: Tensor,
    update_grads: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of k, v (B,T,S,h,D), and of the weights of the Gram matrix and of the update (B,T,S,h), fp32.

    Args:
        gram_weight, update_weight: (B,T,S,h) fp32, contiguous.
        gram_grads: (B,T,h,N,D,D) fp32, gradient plus its transpose; N = 2 with a denominator.
        update_grads: (B,T,h,D,E) fp32.
    """
    batch, frames, cells, heads, width = k.shape
    key_grads, value_grads = (torch.empty(k.shape, dtype=k.dtype, device=k.device) for _ in range(2))
    value_mode = RAY if tables.mode == RAY else PLAIN
    weight_grads = []

    def launched(kernel: Any, kind: str, *given: Tensor, strides: tuple[int, ...], **modes: Any) -> None:
        """The gradient of a weight comes in as many parts as there are programs for a token."""
        tile = launch(kind, k)
        parts = triton.cdiv(width, tile["COLUMNS"])
        weight_grads.append(torch.empty(parts, *gram_weight.shape, dtype=torch.float32, device=k.device))
        kernel[batch * frames * heads, triton.cdiv(cells, tile["BLOCK"]), parts](
            k, v, *given, weight_grads[-1], frames, cells, heads, k.stride(2), k.stride(3), v.stride(2), v.stride(3),
            *strides, weight_grads[-1].stride(0), D=width, DP=padded(width), **modes, **tile,
        )  # fmt: skip

    encoding = tables.from_ray, tables.rotary
    launched(
        value_gradients_kernel, "gradients", update_weight, *encoding, update_grads, value_grads,
        strides=(update_grads.stride(3),), MODE=tables.mode, VALUE_MODE=value_mode,
    )  # fmt: skip
    for index in range(gram_grads.shape[3]):
        gram, of_values = gram_grads[:, :, :, index], index == 0
        update, mode = (update_grads, tables.mode) if of_values else (update_grads[..., width:], PLAIN)
        launched(
            key_gradients_kernel, "key gradients", gram_weight, update_weight, *encoding, gram, update, key_grads,
            strides=(gram.stride(2), update.stride(3)), MODE=mode, VALUE_MODE=value_mode, VALUES=of_values,
        )  # fmt: skip
    of_update, *of_gram = [parts.sum(dim=0) for parts in weight_grads]
    return key_grads, value_grads, sum(of_gram), of_update


def builds() -> list[Build]:
    """For heads of 112 channels, both branches."""
    strides = ("key_row", "key_head", "value_row", "value_head", "update_row", "part_of_grads")
    made = []
    for branch, mode, value_mode in (("main", TURNED, PLAIN), ("camera", RAY, RAY)):
        modes = {"MODE": mode, "VALUE_MODE": value_mode}
        made += shipped_builds(
            "gradients", f"gradients of values, {branch}", value_gradients_kernel, modes,
            ("keys", "values", "value_grads"), strides, {},
        )  # fmt: skip
    for name, mode, value_mode, values in (
        ("keys, main", TURNED, PLAIN, True),
        ("keys, normaliser", PLAIN, PLAIN, False),
        ("keys, camera", RAY, RAY, True),
    ):
        modes = {"MODE": mode, "VALUE_MODE": value_mode, "VALUES": values}
        made += shipped_builds(
            "key gradients", f"gradients of {name}", key_gradients_kernel, modes,
            ("keys", "values", "key_grads"), (*strides, "gram_place"), {},
        )  # fmt: skip
    return made
