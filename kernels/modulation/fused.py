# SPDX-License-Identifier: GPL-3.0-or-later
"""Adaptive layer norm and residuals in Triton: each tensor is read once and written once."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from ..recomputed import recomputed
from ..rows import divided, even_rows
from . import vectorized

_ROW_WARPS = 2
# Tokens and channels of a tile where no row is needed whole.
_TOKENS, _CHANNELS, _TILE_WARPS = 8, 256, 4


@triton.jit
def _summed(x, change, total, channel, seen, ADDS: tl.constexpr):
    """Some channels of a token, fp32; with a change the sum is kept, and what is kept goes on."""
    value = tl.load(x + channel, mask=seen, other=0.0).to(tl.float32)
    if ADDS:
        value += tl.load(change + channel, mask=seen, other=0.0).to(tl.float32)
        kept = value.to(total.dtype.element_ty)
        tl.store(total + channel, kept, mask=seen)
        value = kept.to(tl.float32)
    return value


@triton.jit
def _finish(value, factor, scale, shift, out, channel, seen):
    """Scale and shift of some channels, and where they go."""
    value *= factor * (1 + tl.load(scale + channel, mask=seen, other=0.0).to(tl.float32))
    value += tl.load(shift + channel, mask=seen, other=0.0).to(tl.float32)
    tl.store(out + channel, value.to(out.dtype.element_ty), mask=seen)


@triton.jit
def modulated_kernel(
    x, change, scale, shift, total, out, S, C, x_row, change_row, scale_row, shift_row,
    MAIN: tl.constexpr, REST: tl.constexpr, ADDS: tl.constexpr,
):  # fmt: skip
    """x, change, total, out (B*T*S,C); scale, shift: a row for each S tokens. Channels in two tiles."""
    token, frame = tl.program_id(0).to(tl.int64), tl.program_id(0) // S
    x, change = x + token * x_row, change + token * change_row
    total, out = total + token * C, out + token * C
    scale, shift = scale + frame.to(tl.int64) * scale_row, shift + frame.to(tl.int64) * shift_row
    channel, more = tl.arange(0, MAIN), MAIN + tl.arange(0, REST if REST > 0 else 1)
    main = _summed(x, change, total, channel, channel < C, ADDS)
    sums = tl.sum(main, axis=0)
    if REST > 0:
        rest = _summed(x, change, total, more, more < C, ADDS)
        sums += tl.sum(rest, axis=0)
    mean = sums / C
    main = tl.where(channel < C, main - mean, 0.0)
    squares = tl.sum(main * main, axis=0)
    if REST > 0:
        rest = tl.where(more < C, rest - mean, 0.0)
        squares += tl.sum(rest * rest, axis=0)
    factor = tl.rsqrt(squares / C + 1e-6)
    _finish(main, factor, scale, shift, out, channel, channel < C)
    if REST > 0:
        _finish(rest, factor, scale, shift, out, more, more < C)


@triton.jit
def gated_residual_kernel(
    x, gate, change, added, out, S, C, x_row, change_row, added_row, gate_row,
    TOKENS: tl.constexpr, CHANNELS: tl.constexpr, ADDS: tl.constexpr,
):  # fmt: skip
    """x, change, added, out (B*T*S,C); gate: a row for each S tokens."""
    columns = tl.cdiv(C, CHANNELS)
    channel = tl.program_id(0) % columns * CHANNELS + tl.arange(0, CHANNELS)
    tile, tiles = tl.program_id(0) // columns, tl.cdiv(S, TOKENS)
    frame = (tile // tiles).to(tl.int64)
    cell = tile % tiles * TOKENS + tl.arange(0, TOKENS)
    row, seen = (frame * S + cell)[:, None], (cell < S)[:, None] & (channel < C)[None, :]
    value = tl.load(change + row * change_row + channel[None, :], mask=seen, other=0.0).to(tl.float32)
    gates = gate + frame * gate_row + channel[None, :]
    value *= tl.load(gates, mask=(channel < C)[None, :], other=0.0).to(tl.float32)
    value += tl.load(x + row * x_row + channel[None, :], mask=seen, other=0.0).to(tl.float32)
    if ADDS:
        value += tl.load(added + row * added_row + channel[None, :], mask=seen, other=0.0).to(tl.float32)
    tl.store(out + row * C + channel[None, :], value.to(out.dtype.element_ty), mask=seen)


def _launch_norm(x: Tensor, change: Tensor | None, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of x and change, or x itself, and its modulation."""
    batch, frames, cells, channels = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = x if change is None else torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows, scale, shift = even_rows(x), even_rows(scale), even_rows(shift)
    changes = rows if change is None else even_rows(change)
    main, rest = divided(channels)
    modulated_kernel[(batch * frames * cells,)](
        rows, changes, scale, shift, total, out, cells, channels, rows.stride(0), changes.stride(0),
        scale.stride(0), shift.stride(0), MAIN=main, REST=rest, ADDS=change is not None, num_warps=_ROW_WARPS,
    )  # fmt: skip
    return total, out


def _launch_residual(x: Tensor, gate: Tensor, change: Tensor, added: Tensor | None) -> Tensor:
    batch, frames, cells, channels = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    rows, gate, changes = even_rows(x), even_rows(gate), even_rows(change)
    others = rows if added is None else even_rows(added)
    tiles = batch * frames * triton.cdiv(cells, _TOKENS) * triton.cdiv(channels, _CHANNELS)
    gated_residual_kernel[(tiles,)](
        rows, gate, changes, others, out, cells, channels, rows.stride(0), changes.stride(0), others.stride(0),
        gate.stride(0), TOKENS=_TOKENS, CHANNELS=_CHANNELS, ADDS=added is not None,
        num_warps=_TILE_WARPS,
    )  # fmt: skip
    return out


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """As the package's `modulated`."""

    def launch(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return _launch_norm(x, None, scale, shift)[1]

    return recomputed(launch, vectorized.modulated, x, scale, shift)


def residual_modulated(x: Tensor, change: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """As the package's `residual_modulated`."""
    return recomputed(_launch_norm, vectorized.residual_modulated, x, change, scale, shift)


def gated_residual(x: Tensor, gate: Tensor, change: Tensor, added: Tensor | None = None) -> Tensor:
    """As the package's `gated_residual`."""
    return recomputed(_launch_residual, vectorized.gated_residual, x, gate, change, added)


def builds() -> list[Build]:
    """For the released width."""
    pointers = ("x", "scale", "shift", "gate", "change", "added", "total", "out")
    sizes = ("S", "C", "x_row", "change_row", "added_row", "scale_row", "shift_row", "gate_row")
    types = {**dict.fromkeys(pointers, "*bf16"), **dict.fromkeys(sizes, "i32")}
    main, rest = divided(2240)
    of_rows = {"MAIN": main, "REST": rest}
    of_tiles = {"TOKENS": _TOKENS, "CHANNELS": _CHANNELS}
    variants = (
        ("adaptive layer norm", modulated_kernel, {**of_rows, "ADDS": False}, _ROW_WARPS),
        ("residual and adaptive layer norm", modulated_kernel, {**of_rows, "ADDS": True}, _ROW_WARPS),
        ("gated residual", gated_residual_kernel, {**of_tiles, "ADDS": False}, _TILE_WARPS),
        ("gated residual with a term", gated_residual_kernel, {**of_tiles, "ADDS": True}, _TILE_WARPS),
    )
    return [
        Build(
            f"modulation, {name}",
            kernel,
            {key: types[key] for key in kernel.arg_names if key in types},
            constants,
            dict.fromkeys((80, 90, 100, 120), ""),
            warps,
            aligned=tuple(name for name in sizes if name != "S"),
        )
        for name, kernel, constants, warps in variants
    ]
