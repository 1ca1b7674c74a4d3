# SPDX-License-Identifier: GPL-3.0-or-later
"""The tiles that are shipped for each GPU generation: those that the compiler fits into registers without spills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from ..devices import shipped_for
from .tiles import padded

_WARPS = 8
# Compute capability -> tokens of a tile, columns of a program, pipeline stages. Hopper's and Blackwell's big tensor
# cores take 64 rows at a time.
_IN_BF16 = {
    "products": {80: (32, 64, 1), 90: (32, 64, 2), 100: (32, 64, 2), 120: (32, 64, 2)},
    "read": {80: (32, 64, 1), 90: (64, 64, 1), 100: (64, 32, 1), 120: (32, 64, 1)},
    "gradients": {80: (32, 64, 1), 90: (64, 64, 1), 100: (64, 32, 1), 120: (32, 64, 1)},
    "key gradients": {80: (32, 32, 1), 90: (64, 32, 1), 100: (64, 32, 1), 120: (32, 32, 1)},
}
_IN_FP32 = {
    "products": {80: (16, 32, 1), 90: (32, 32, 1), 100: (32, 32, 1), 120: (16, 32, 1)},
    "read": {80: (16, 32, 1), 90: (64, 32, 1), 100: (64, 32, 1), 120: (16, 32, 1)},
    "gradients": {80: (16, 32, 1), 90: (64, 32, 1), 100: (64, 32, 1), 120: (16, 32, 1)},
    "key gradients": {80: (16, 32, 1), 90: (16, 32, 1), 100: (16, 32, 1), 120: (16, 32, 1)},
}
# bf16 is multiplied as it is; fp32 is split into three parts, which keeps its digits.
_NUMBERS = {
    torch.bfloat16: {"CAST": tl.bfloat16, "PRECISION": "tf32"},
    torch.float32: {"CAST": tl.float32, "PRECISION": "tf32x3"},
}
PRODUCTS_BECOME = {80: r"mma\.sync\S*", 90: r"wgmma\.mma\S*", 100: r"tcgen05\.mma\S*", 120: r"mma\.sync\S*"}
_SMALL_TILES_BECOME = r"mma\.sync\S*"


def launch(kind: str, x: Tensor) -> dict[str, Any]:
    """Tile, warps and arithmetic of a kind of kernel for tokens like x."""
    table = _IN_BF16 if x.dtype == torch.bfloat16 else _IN_FP32
    block, columns, stages = shipped_for(x.device, table[kind])
    columns = min(columns, padded(x.shape[-1]))
    return {
        "BLOCK": block,
        "COLUMNS": columns,
        "num_warps": _WARPS,
        "num_stages": stages,
        **_NUMBERS[x.dtype],
    }


def shipped_builds(
    kind: str,
    name: str,
    kernel: Any,
    constants: Mapping[str, Any],
    tokens: Iterable[str],
    integers: Iterable[str],
    more: Mapping[str, str],
) -> list[Build]:
    """A kernel in every shipped configuration for heads of 112 channels.

    Args:
        tokens: arguments of the tokens' dtype.
        integers: strides, multiples of 16.
        more: types of arguments that are neither fp32 pointers, tokens, sizes nor strides.
    """
    made = []
    for kind_of_number, table, dtype in (
        ("bf16", _IN_BF16, torch.bfloat16),
        ("fp32", _IN_FP32, torch.float32),
    ):
        by_tile: dict[tuple[int, int, int], list[int]] = {}
        for capability, tile in table[kind].items():
            by_tile.setdefault(tile, []).append(capability)
        for (block, columns, stages), capabilities in by_tile.items():
            constant = {
                **{"D": 112, "DP": 128, "BLOCK": block, "COLUMNS": columns},
                **_NUMBERS[dtype],
                **constants,
            }
            types = dict.fromkeys(kernel.arg_names, "*fp32") | dict.fromkeys(
                ("T", "S", "H", *integers), "i32"
            )
            types |= {**dict.fromkeys(tokens, f"*{kind_of_number}"), **more}
            rows = 128 if kind == "products" else block
            made.append(
                Build(
                    f"gated delta {name}, {kind_of_number}, {block} tokens, {columns} columns",
                    kernel,
                    {key: types[key] for key in kernel.arg_names if key not in constant},
                    constant,
                    {
                        capability: PRODUCTS_BECOME[capability] if rows >= 64 else _SMALL_TILES_BECOME
                        for capability in capabilities
                    },
                    _WARPS,
                    stages,
                    aligned=tuple(integers),
                )
            )
    return made
