# SPDX-License-Identifier: GPL-3.0-or-later
"""SiLU gates in Triton: each tensor is read once and the product written once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from ..recomputed import recomputed
from . import vectorized

_BLOCK, _WARPS = 1024, 4


@triton.jit
def gated_kernel(values, others, gates, out, C, value_row, gate_row, BLOCK: tl.constexpr, ADDS: tl.constexpr):
    """out (R,C) = (values + others) * SiLU(gates); rows of values and gates may lie apart."""
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    seen = channel < C
    value = tl.load(values + row * value_row + channel, mask=seen, other=0.0).to(tl.float32)
    if ADDS:
        value += tl.load(others + row * C + channel, mask=seen, other=0.0).to(tl.float32)
    gate = tl.load(gates + row * gate_row + channel, mask=seen, other=0.0).to(tl.float32)
    value *= gate / (1 + tl.exp(-gate))
    tl.store(out + row * C + channel, value.to(out.dtype.element_ty), mask=seen)


def _launch(values: Tensor, others: Tensor | None, gates: Tensor) -> Tensor:
    """values, gates (R,C) with channels side by side, others (R,C) dense."""
    rows, channels = values.shape
    out = torch.empty(rows, channels, dtype=values.dtype, device=values.device)
    block = min(_BLOCK, triton.next_power_of_2(channels))
    gated_kernel[rows, triton.cdiv(channels, block)](
        values, others, gates, out, channels, values.stride(0), gates.stride(0), BLOCK=block,
        ADDS=others is not None, num_warps=_WARPS,
    )  # fmt: skip
    return out


def _gated(hidden: Tensor) -> Tensor:
    value, gate = hidden.contiguous().flatten(0, -2).chunk(2, dim=-1)
    return _launch(value, None, gate).unflatten(0, hidden.shape[:-1])


def _gated_sum(main: Tensor, other: Tensor | None, gate: Tensor) -> Tensor:
    flat = [None if x is None else x.contiguous().flatten(0, -2) for x in (main, other, gate)]
    return _launch(*flat).unflatten(0, main.shape[:-1])


def gated(hidden: Tensor) -> Tensor:
    """As the package's `gated`."""
    return recomputed(_gated, vectorized.gated, hidden)


def gated_sum(main: Tensor, other: Tensor | None, gate: Tensor) -> Tensor:
    """As the package's `gated_sum`."""
    return recomputed(_gated_sum, vectorized.gated_sum, main, other, gate)


def builds() -> list[Build]:
    """In bf16, with and without a second value."""
    types = dict.fromkeys(("values", "others", "gates", "out"), "*bf16")
    types |= dict.fromkeys(("C", "value_row", "gate_row"), "i32")
    return [
        Build(
            f"gated unit{', of a sum' if adds else ''}",
            gated_kernel,
            types,
            {"BLOCK": _BLOCK, "ADDS": adds},
            dict.fromkeys((80, 90, 100, 120), ""),
            _WARPS,
            aligned=("C", "value_row", "gate_row"),
        )
        for adds in (False, True)
    ]
