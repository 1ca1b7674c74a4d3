# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradients of keys, values and their weights in Triton, from those of a frame's Gram matrix and update."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from .products import TENSOR_CORES
from .tiles import PLAIN, RAY, TURNED, Tables, arithmetic, encoded, loaded, padded, place_of, product, square, stored


@triton.jit
def value_gradients_kernel(
    keys, values, weight, matrix, rotary, update_grads, value_grads, weight_grads, T, S, H,
    key_row, key_head, value_row, value_head, update_row,
    D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, MODE: tl.constexpr, VALUE_MODE: tl.constexpr,
    CAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of update = sum of weight k v^T: gradients of values (B,T,S,H,D) and of the weight (B,T,S,H)."""
    batch, frame, head, place = place_of(T, H)
    channels = tl.arange(0, DP)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    inside, table_row = token < S, frame * S + token
    rows = (batch * T + frame) * S + token
    grads = square(update_grads + place * D * update_row, update_row, channels, channels, D)
    k = loaded(keys + head * key_head, rows, inside, key_row, channels, D)
    k = encoded(k, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, False, False)
    x = product(k, grads, tl.zeros((BLOCK, DP), tl.float32), CAST, PRECISION)
    v = loaded(values + head * value_head, rows, inside, value_row, channels, D)
    v = encoded(v, matrix, rotary, batch * T * S, table_row, inside, 0, D, VALUE_MODE, False, False)
    at = rows * H + head
    tl.store(weight_grads + at, tl.sum(x * v, axis=1), mask=inside)
    x *= tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)[:, None]
    x = encoded(x, matrix, rotary, batch * T * S, table_row, inside, 0, D, VALUE_MODE, True, True)
    stored(value_grads + head * D, rows, inside, H * D, channels, x, D)


@triton.jit
def key_gradients_kernel(
    keys, values, gram_weight, update_weight, matrix, rotary, gram_grads, update_grads, key_grads, gram_weight_grads,
    T, S, H, key_row, key_head, value_row, value_head, gram_place, update_row,
    D: tl.constexpr, DP: tl.constexpr, BLOCK: tl.constexpr, MODE: tl.constexpr, VALUE_MODE: tl.constexpr,
    VALUES: tl.constexpr, CAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of Gram = sum of weight k k^T and the update: gradients of keys (B,T,S,H,D) and of the Gram matrix's weight.

    gram_grads (B,T,H,D,D) is the gradient plus its transpose. Without VALUES, whose place ones take, the update's
    gradient is a vector, the gradient of its weight is in the Gram matrix's too, and what is in key_grads is added to.
    """
    batch, frame, head, place = place_of(T, H)
    channels = tl.arange(0, DP)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    inside, table_row = token < S, frame * S + token
    rows = (batch * T + frame) * S + token
    k = loaded(keys + head * key_head, rows, inside, key_row, channels, D)
    k = encoded(k, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, False, False)
    grads = square(gram_grads + place * gram_place, D, channels, channels, D)
    x = product(k, grads, tl.zeros((BLOCK, DP), tl.float32), CAST, PRECISION)
    at = rows * H + head
    of_weight = 0.5 * tl.sum(x * k, axis=1)
    x *= tl.load(gram_weight + at, mask=inside, other=0.0).to(tl.float32)[:, None]
    factor = tl.load(update_weight + at, mask=inside, other=0.0).to(tl.float32)[:, None]
    update_grads += place * D * update_row
    if VALUES:
        v = loaded(values + head * value_head, rows, inside, value_row, channels, D)
        v = encoded(v, matrix, rotary, batch * T * S, table_row, inside, 0, D, VALUE_MODE, False, False)
        grads = square(update_grads, update_row, channels, channels, D)
        x = product(v * factor, tl.trans(grads), x, CAST, PRECISION)
    else:
        ones = tl.load(update_grads + channels * update_row, mask=channels < D, other=0.0)[None]
        of_weight += tl.sum(k * ones, axis=1)
        x += factor * ones
    tl.store(gram_weight_grads + at, of_weight, mask=inside)
    x = encoded(x, matrix, rotary, batch * T * S, table_row, inside, 0, D, MODE, True, True)
    if not VALUES:
        x += loaded(key_grads + head * D, rows, inside, H * D, channels, D)
    stored(key_grads + head * D, rows, inside, H * D, channels, x, D)


def key_and_value_gradients(
    k: Tensor,
    v: Tensor,
    weights: tuple[Tensor, Tensor],
    tables: Tables,
    gram_grads: Tensor,
    update_grads: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of k, v (B,T,S,h,D), and of the Gram matrix's and of the update's weights (B,T,S,h), fp32.

    Args:
        weights: of the Gram matrix and of the update, (B,T,S,h), contiguous.
        gram_grads: (B,T,h,N,D,D) fp32, gradient plus its transpose; N = 2 with a denominator.
        update_grads: (B,T,h,D,E) fp32.
    """
    batch, frames, cells, heads, width = k.shape
    key_grads, value_grads = (torch.empty(k.shape, dtype=k.dtype, device=k.device) for _ in range(2))
    of_weights = torch.empty(3, batch, frames, cells, heads, dtype=torch.float32, device=k.device)
    config, value_mode = _config(k), RAY if tables.mode == RAY else PLAIN
    grid = batch * frames * heads, triton.cdiv(cells, config["BLOCK"])
    steps = k.stride(2), k.stride(3), v.stride(2), v.stride(3)
    gram_weight, update_weight = weights
    sizes = {"D": width, "DP": padded(width), "VALUE_MODE": value_mode, **config}
    encoding = tables.from_ray, tables.rotary
    value_gradients_kernel[grid](
        k, v, update_weight, *encoding, update_grads, value_grads, of_weights[1], frames, cells, heads, *steps,
        update_grads.stride(3), MODE=tables.mode, **sizes,
    )  # fmt: skip

    def keys(gram: Tensor, update: Tensor, mode: int, values: bool, of_gram_weight: Tensor) -> None:
        key_gradients_kernel[grid](
            k, v, gram_weight, update_weight, *encoding, gram, update, key_grads, of_gram_weight,
            frames, cells, heads, *steps, gram.stride(2), update.stride(3), MODE=mode, VALUES=values, **sizes,
        )  # fmt: skip

    keys(gram_grads[:, :, :, 0], update_grads, tables.mode, True, of_weights[0])
    if gram_grads.shape[3] > 1:
        keys(gram_grads[:, :, :, 1], update_grads[..., width:], PLAIN, False, of_weights[2])
        of_weights[0] += of_weights[2]
    return key_grads, value_grads, of_weights[0], of_weights[1]


def _config(x: Tensor) -> dict[str, Any]:
    return {"BLOCK": 32 if x.dtype == torch.bfloat16 else 16, "num_warps": 8, "num_stages": 1, **arithmetic(x)}


def builds() -> list[Build]:
    """For heads of 112 channels, both branches."""
    variants = (
        ("values, main", value_gradients_kernel, {"MODE": TURNED, "VALUE_MODE": PLAIN}),
        ("values, camera", value_gradients_kernel, {"MODE": RAY, "VALUE_MODE": RAY}),
        ("keys, main", key_gradients_kernel, {"MODE": TURNED, "VALUE_MODE": PLAIN, "VALUES": True}),
        ("keys, normaliser", key_gradients_kernel, {"MODE": PLAIN, "VALUE_MODE": PLAIN, "VALUES": False}),
        ("keys, camera", key_gradients_kernel, {"MODE": RAY, "VALUE_MODE": RAY, "VALUES": True}),
    )
    tokens = ("keys", "values", "key_grads", "value_grads")
    buffers = ("weight", "gram_weight", "update_weight", "matrix", "rotary", "gram_grads", "update_grads")
    buffers += ("weight_grads", "gram_weight_grads")
    strides = ("key_row", "key_head", "value_row", "value_head", "gram_place", "update_row")
    made = []
    for kind, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        types = dict.fromkeys(tokens, f"*{kind}") | dict.fromkeys(buffers, "*fp32")
        types |= dict.fromkeys(("T", "S", "H", *strides), "i32")
        for name, kernel, modes in variants:
            config = _config(torch.empty(0, dtype=dtype))
            warps, stages = config.pop("num_warps"), config.pop("num_stages")
            made.append(
                Build(
                    f"frame_gdn gradients of {name}, {kind}",
                    kernel,
                    {name: types[name] for name in kernel.arg_names if name in types},
                    {"D": 112, "DP": 128, **modes, **config},
                    TENSOR_CORES[kind],
                    warps,
                    stages,
                    aligned=strides,
                )
            )
    return made
