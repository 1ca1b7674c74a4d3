# SPDX-License-Identifier: GPL-3.0-or-later
"""SiLU gates in Triton: each tensor is read once and the product written once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from ..recomputed import recomputed
from ..rows import even_rows
from . import vectorized

# Rows and channels of a tile: 2240 and 6720 channels leave few of its lanes without work.
_ROWS, _CHANNELS, _WARPS = 8, 256, 4


@triton.jit
def gated_kernel(
    values, others, gates, out, rows, C, value_row, other_row, gate_row,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr, ADDS: tl.constexpr,
):  # fmt: skip
    """out (rows,C) = (values + others) * SiLU(gates); rows of what is read may lie apart."""
    columns = tl.cdiv(C, CHANNELS)
    channel = (tl.program_id(0) % columns * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    row = ((tl.program_id(0) // columns).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    seen = (row < rows) & (channel < C)
    value = tl.load(values + row * value_row + channel, mask=seen, other=0.0).to(tl.float32)
    if ADDS:
        value += tl.load(others + row * other_row + channel, mask=seen, other=0.0).to(tl.float32)
    gate = tl.load(gates + row * gate_row + channel, mask=seen, other=0.0).to(tl.float32)
    value *= gate * tl.sigmoid(gate)
    tl.store(out + row * C + channel, value.to(out.dtype.element_ty), mask=seen)


def _launch(values: Tensor, others: Tensor | None, gates: Tensor) -> Tensor:
    """values, others, gates (R,C) with channels side by side."""
    rows, channels = values.shape
    out = torch.empty(rows, channels, dtype=values.dtype, device=values.device)
    adds, others = others is not None, values if others is None else others
    gated_kernel[(triton.cdiv(rows, _ROWS) * triton.cdiv(channels, _CHANNELS),)](
        values, others, gates, out, rows, channels, values.stride(0), others.stride(0), gates.stride(0),
        ROWS=_ROWS, CHANNELS=_CHANNELS, ADDS=adds, num_warps=_WARPS,
    )  # fmt: skip
    return out


def _gated(hidden: Tensor) -> Tensor:
    value, gate = even_rows(hidden).chunk(2, dim=-1)
    return _launch(value, None, gate).unflatten(0, hidden.shape[:-1])


def _gated_sum(main: Tensor, other: Tensor | None, gate: Tensor) -> Tensor:
    others = None if other is None else even_rows(other)
    return _launch(even_rows(main), others, even_rows(gate)).unflatten(0, main.shape[:-1])


def gated(hidden: Tensor) -> Tensor:
    """As the package's `gated`."""
    return recomputed(_gated, vectorized.gated, hidden)


def gated_sum(main: Tensor, other: Tensor | None, gate: Tensor) -> Tensor:
    """As the package's `gated_sum`."""
    return recomputed(_gated_sum, vectorized.gated_sum, main, other, gate)


def builds() -> list[Build]:
    """In bf16, with and without a second value."""
    sizes = ("C", "value_row", "other_row", "gate_row")
    types = dict.fromkeys(("values", "others", "gates", "out"), "*bf16")
    types |= dict.fromkeys(("rows", *sizes), "i32")
    return [
        Build(
            f"gated unit{', of a sum' if adds else ''}",
            gated_kernel,
            types,
            {"ROWS": _ROWS, "CHANNELS": _CHANNELS, "ADDS": adds},
            dict.fromkeys((80, 90, 100, 120), ""),
            _WARPS,
            aligned=sizes,
        )
        for adds in (False, True)
    ]
