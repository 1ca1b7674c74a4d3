# SPDX-License-Identifier: GPL-3.0-or-later
"""NVFP4 in torch: what a CPU runs, and what quantises weights on any device.

Quotients are double, so that they are rounded once, as by `naive` and by the kernels; products are fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 16
TILE_ROWS, TILE_COLUMNS = 128, 4
# Largest element times largest block scale.
RANGE = 6.0 * 448.0
# The same where a block's maximum may also be stored as 4, which needs scales half as large again.
_ADAPTIVE_RANGE = 6.0 * 256.0
# Elements of a weight that are unpacked at a time.
_ELEMENTS_AT_ONCE = 1 << 21
_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


class Quantized(NamedTuple):
    """A matrix (R, K) in memory, K a multiple of 16.

    Attributes:
        packed: (R, K / 2) uint8, E2M1 codes, the first of two in the low four bits.
        scales: float8_e4m3fn, flat: one for 16 numbers of a row, in the order of `swizzle`.
        tensor_scale: () fp32, a multiplier of the decoder.
    """

    packed: Tensor
    scales: Tensor
    tensor_scale: Tensor


def quantize(x: Tensor, valid: Tensor | None = None) -> Quantized:
    """Round x to NVFP4 with scales of its own: to nearest, ties to even.

    Args:
        x: (R, K), any float dtype.
        valid: (R,) bool, rows that count for the tensor's scale; None for all. The others saturate.
    """
    tensor_scale = _tensor_scale(x if valid is None else x[valid], RANGE)
    codes, scales = _codes(x, tensor_scale, 6.0)
    return Quantized(pack(codes), swizzle(scales), tensor_scale)


def quantize_weight(weight: Tensor) -> Quantized:
    """Round a weight (N, K); each block's maximum becomes 6 or 4, whichever makes the smaller squared error.

    The choice costs nothing to decode. Works on a part of the rows at a time.
    """
    tensor_scale = _tensor_scale(weight, _ADAPTIVE_RANGE)
    packed, scales = [], []
    for rows in row_tiles(*weight.shape):
        part = weight[rows].float()
        candidates = [_codes(part, tensor_scale, largest) for largest in (6.0, 4.0)]
        errors = [_squared_errors(part, codes, scale, tensor_scale) for codes, scale in candidates]
        lower = errors[1] < errors[0]
        (codes6, scales6), (codes4, scales4) = candidates
        packed.append(pack(torch.where(lower.repeat_interleave(BLOCK, dim=1), codes4, codes6)))
        scales.append(torch.where(lower, scales4.float(), scales6.float()).to(torch.float8_e4m3fn))
    return Quantized(torch.cat(packed), swizzle(torch.cat(scales)), tensor_scale)


def dequantize(quantized: Quantized) -> Tensor:
    """-> (R, K) fp32"""
    return _scaled_numbers(quantized.packed, linear_scales(quantized)) * quantized.tensor_scale


def matmul(a: Quantized, b: Quantized, bias: Tensor | None = None) -> Tensor:
    """a (M, K), b (N, K) -> a b^T + bias (M, N) fp32, as FP4 tensor cores compute it but for the order of sums."""
    numbers = _scaled_numbers(a.packed, linear_scales(a))
    return _product(numbers, b, a.tensor_scale * b.tensor_scale, bias)


def weight_only_matmul(x: Tensor, weight: Quantized, bias: Tensor | None = None) -> Tensor:
    """x (M, K) as it is, weight (N, K) -> (M, N) fp32."""
    return _product(x.float(), weight, weight.tensor_scale, bias)


def _product(numbers: Tensor, weight: Quantized, alpha: Tensor, bias: Tensor | None) -> Tensor:
    rows, scales = weight.packed.shape[0], linear_scales(weight)
    out = numbers.new_empty(numbers.shape[0], rows)
    for tile in row_tiles(rows, numbers.shape[1]):
        out[:, tile] = numbers @ _scaled_numbers(weight.packed[tile], scales[tile]).T
    out.mul_(alpha)
    return out if bias is None else out.add_(bias.float())


def gated(hidden: Tensor) -> Tensor:
    """(..., 2 K), values and then gates -> values * SiLU(gates) (..., K) in fp32."""
    value, gate = hidden.float().chunk(2, dim=-1)
    return value * F.silu(gate)


def row_tiles(rows: int, columns: int) -> Iterator[slice]:
    step = max(TILE_ROWS, _ELEMENTS_AT_ONCE // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def pack(codes: Tensor) -> Tensor:
    """Codes (R, K) uint8 -> (R, K / 2), the first of two in the low four bits."""
    return codes[:, 0::2] | codes[:, 1::2] << 4


def unpack(packed: Tensor) -> Tensor:
    """(R, K / 2) -> codes (R, K) uint8."""
    return torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)


def swizzle(scales: Tensor) -> Tensor:
    """Scales (R, C) -> flat, in the order in which FP4 tensor cores read them.

    Tiles of 128 rows by 4 columns lie one behind the other; in a tile lie rows 0, 32, 64 and 96 together, four columns
    each, then rows 1, 33, 65 and 97. R is padded to 128 and C to 4 with zeros.
    """
    rows, columns = scales.shape
    padded = F.pad(scales.view(torch.uint8), (0, -columns % TILE_COLUMNS, 0, -rows % TILE_ROWS))
    tiles = padded.unflatten(1, (-1, 4)).unflatten(
        0, (-1, 4, 32)
    )  # row tile, quarter, row, column tile, column
    return tiles.permute(0, 3, 2, 1, 4).flatten().view(scales.dtype)


def unswizzle(flat: Tensor, rows: int, columns: int) -> Tensor:
    """-> scales (R, C)"""
    column_tiles = -(-columns // TILE_COLUMNS)
    tiles = flat.view(torch.uint8).view(-1, column_tiles, 32, 4, 4).permute(0, 3, 2, 1, 4)
    whole = tiles.reshape(-1, TILE_COLUMNS * column_tiles)
    return whole[:rows, :columns].contiguous().view(flat.dtype)


def swizzled_size(rows: int, columns: int) -> int:
    """Scales of a matrix with so many rows and blocks in a row, padding included."""
    return -(-rows // TILE_ROWS) * TILE_ROWS * (-(-columns // TILE_COLUMNS) * TILE_COLUMNS)


def linear_scales(quantized: Quantized) -> Tensor:
    """(R, K / 16) float8_e4m3fn, row by row."""
    rows, half = quantized.packed.shape
    return unswizzle(quantized.scales, rows, 2 * half // BLOCK)


def _tensor_scale(x: Tensor, range_: float) -> Tensor:
    amax = x.abs().amax().float() if x.numel() else torch.zeros((), device=x.device)
    return torch.where(amax > 0, amax / range_, 1.0)


def _codes(x: Tensor, tensor_scale: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """x (R, K) -> codes (R, K) uint8 and scales (R, K / 16) E4M3; a block's maximum becomes `largest`."""
    blocks, tensor_scale = x.double().unflatten(1, (-1, BLOCK)), tensor_scale.double()
    scales = _e4m3(blocks.abs().amax(dim=2) / (largest * tensor_scale))
    step = (scales.double() * tensor_scale).unsqueeze(2)
    # Rounded down, a scale lets its block's maximum pass 6, so that it is clamped.
    sizes = torch.where(step > 0, blocks / step, 0.0).flatten(1)
    negative = sizes < 0
    sizes = sizes.abs_().clamp_(max=6)
    # In steps of 0.5 below 2, of 1 below 4, of 2 above; torch rounds ties to even.
    codes = torch.where(sizes < 2, (2 * sizes).round(), sizes.round() + 2)
    codes = torch.where(sizes < 4, codes, (0.5 * sizes).round() + 4)
    return codes.to(torch.uint8) + 8 * negative.to(torch.uint8), scales


def _e4m3(x: Tensor) -> Tensor:
    """To nearest, ties to even, saturating; x double, not negative. The cast itself would round to fp32 first."""
    exponent = torch.frexp(x).exponent - 1
    step = torch.ldexp(torch.ones_like(x), exponent.clamp(min=-6) - 3)
    return ((x / step).round() * step).clamp_(max=448).float().to(torch.float8_e4m3fn)


def _scaled_numbers(packed: Tensor, scales: Tensor) -> Tensor:
    """Element times block scale (R, K) fp32, exact even in bf16: two significant bits times four."""
    table = torch.tensor((*_E2M1, *(-number for number in _E2M1)), device=packed.device)
    numbers = table[unpack(packed).int()].unflatten(1, (-1, BLOCK))
    return (numbers * scales.float().unsqueeze(2)).flatten(1)


def _squared_errors(x: Tensor, codes: Tensor, scales: Tensor, tensor_scale: Tensor) -> Tensor:
    """Of each block, (R, K / 16)."""
    error = _scaled_numbers(pack(codes), scales) * tensor_scale - x
    return error.square_().unflatten(1, (-1, BLOCK)).sum(dim=2)
