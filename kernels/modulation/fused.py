# SPDX-License-Identifier: GPL-3.0-or-later
"""Adaptive layer norm and gated residual in Triton: one token in a program, each tensor read and written once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from ..recomputed import recomputed
from . import vectorized

_WARPS = 8


@triton.jit
def modulated_kernel(x, scale, shift, out, S, C, scale_row, shift_row, BLOCK: tl.constexpr):
    """x, out (B*T*S,C); scale, shift: a row for each S tokens."""
    token = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    seen = channel < C
    value = tl.load(x + token * C + channel, mask=seen, other=0.0).to(tl.float32)
    value = tl.where(seen, value - tl.sum(value, axis=0) / C, 0.0)
    value *= tl.rsqrt(tl.sum(value * value, axis=0) / C + 1e-6)
    frame = token // S
    factor = 1 + tl.load(scale + frame * scale_row + channel, mask=seen, other=0.0).to(tl.float32)
    value = value * factor + tl.load(shift + frame * shift_row + channel, mask=seen, other=0.0).to(tl.float32)
    tl.store(out + token * C + channel, value.to(out.dtype.element_ty), mask=seen)


@triton.jit
def gated_residual_kernel(
    x, gate, change, added, out, S, C, gate_row, BLOCK: tl.constexpr, ADDS: tl.constexpr
):
    """x, change, added, out (B*T*S,C); gate: a row for each S tokens."""
    token = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    seen = channel < C
    at = token * C + channel
    value = tl.load(change + at, mask=seen, other=0.0).to(tl.float32)
    value *= tl.load(gate + token // S * gate_row + channel, mask=seen, other=0.0).to(tl.float32)
    value += tl.load(x + at, mask=seen, other=0.0).to(tl.float32)
    if ADDS:
        value += tl.load(added + at, mask=seen, other=0.0).to(tl.float32)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=seen)


def _of_frames(x: Tensor) -> Tensor:
    """(B,T,1,C), rows in even steps."""
    return x if x.stride(-1) == 1 and x.stride(0) == x.shape[1] * x.stride(1) else x.contiguous()


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    x, scale, shift = x.contiguous(), _of_frames(scale), _of_frames(shift)
    batch, frames, cells, channels = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    modulated_kernel[(batch * frames * cells,)](
        x, scale, shift, out, cells, channels, scale.stride(1), shift.stride(1),
        BLOCK=triton.next_power_of_2(channels), num_warps=_WARPS,
    )  # fmt: skip
    return out


def _gated_residual(x: Tensor, gate: Tensor, change: Tensor, added: Tensor | None) -> Tensor:
    x, gate, change = x.contiguous(), _of_frames(gate), change.contiguous()
    added = None if added is None else added.contiguous()
    batch, frames, cells, channels = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    gated_residual_kernel[(batch * frames * cells,)](
        x, gate, change, added, out, cells, channels, gate.stride(1),
        BLOCK=triton.next_power_of_2(channels), ADDS=added is not None, num_warps=_WARPS,
    )  # fmt: skip
    return out


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """As the package's `modulated`."""
    return recomputed(_modulated, vectorized.modulated, x, scale, shift)


def gated_residual(x: Tensor, gate: Tensor, change: Tensor, added: Tensor | None = None) -> Tensor:
    """As the package's `gated_residual`."""
    return recomputed(_gated_residual, vectorized.gated_residual, x, gate, change, added)


def builds() -> list[Build]:
    """For the released width."""
    types = dict.fromkeys(("x", "scale", "shift", "gate", "change", "added", "out"), "*bf16")
    types |= dict.fromkeys(("S", "C", "scale_row", "shift_row", "gate_row"), "i32")
    variants = (
        ("adaptive layer norm", modulated_kernel, {}),
        ("gated residual", gated_residual_kernel, {"ADDS": False}),
        ("gated residual with a term", gated_residual_kernel, {"ADDS": True}),
    )
    return [
        Build(
            f"modulation, {name}",
            kernel,
            {key: types[key] for key in kernel.arg_names if key in types},
            {"BLOCK": 4096, **constants},
            dict.fromkeys((80, 90, 100, 120), ""),
            _WARPS,
            aligned=("C", "scale_row", "shift_row", "gate_row"),
        )
        for name, kernel, constants in variants
    ]
