# SPDX-License-Identifier: GPL-3.0-or-later
"""NVFP4 in Triton, first half: activations are measured and rounded to 4 bits, scales in the order of tensor cores.

Two kernels: the first leaves the largest magnitude of each part, the second reduces these few and rounds. Both can read
the two halves of a gated hidden layer instead of a matrix, so that value * SiLU(gate) is never written to memory.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from .vectorized import BLOCK, Quantized, swizzled_size

_PARTS = 512  # programs that look for the largest magnitude, at most
_COLUMNS_AT_ONCE = 1024
_QUANTIZED_ROWS, _QUANTIZED_COLUMNS = 32, 128
# Whether Triton interprets kernels on a CPU, which has no fused multiply-add.
_INTERPRETED = triton.knobs.runtime.interpret


@triton.jit
def _read(x_ptr, offsets, columns, mask, GATED: tl.constexpr):
    """fp32 numbers of a matrix, or of value * SiLU(gate) where each row holds values and then gates."""
    x = tl.load(x_ptr + offsets, mask=mask, other=0.0).to(tl.float32)
    if GATED:
        gate = tl.load(x_ptr + offsets + columns, mask=mask, other=0.0).to(tl.float32)
        x = x * (gate / (1.0 + tl.exp(-gate)))
    return x


@triton.jit
def _largest_kernel(
    x_ptr,
    valid_ptr,
    parts_ptr,
    rows,
    columns,
    row_stride,
    HAS_VALID: tl.constexpr,
    GATED: tl.constexpr,
    ELEMENTS: tl.constexpr,
):
    """Every so many-th row -> parts[program], their largest magnitude."""
    largest = tl.zeros((ELEMENTS,), tl.float32)
    start = tl.program_id(0).to(tl.int64) * row_stride
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        counts = True
        if HAS_VALID:
            counts = tl.load(valid_ptr + row) != 0
        for first in range(0, columns, ELEMENTS):
            column = first + tl.arange(0, ELEMENTS)
            x = _read(x_ptr, start + column, columns, (column < columns) & counts, GATED)
            largest = tl.maximum(largest, tl.abs(x))
        start += tl.num_programs(0) * row_stride
    tl.store(parts_ptr + tl.program_id(0), tl.max(largest, axis=0))


@triton.jit
def _scale_code(quotient):
    """Positive double -> E4M3 code, to nearest, ties to even, saturating."""
    bits = tl.minimum(quotient, 448.0).to(tl.int64, bitcast=True)
    # 49 of 52 bits are rounded away; the exponent's bias falls from 1023 to 7.
    normal = ((bits + 0xFFFFFFFFFFFF + ((bits >> 49) & 1)) >> 49) - 8128
    # Below 2^-6 in steps of 2^-9; adding 2^52 rounds to a whole number.
    subnormal = (quotient * 512 + 4503599627370496.0).to(tl.int64, bitcast=True) & 15
    return tl.where(quotient < 0.015625, subnormal, normal).to(tl.int32)


@triton.jit
def scale_value(code):
    """E4M3 code (int32, sign apart) -> fp32."""
    normal = ((code << 20) + 1006632960).to(tl.float32, bitcast=True)  # 120 << 23
    return tl.where(code < 8, code.to(tl.float32) * 0.001953125, normal)


@triton.jit
def _passes(size, bound, tensor_scale, ties: tl.constexpr, INTERPRETED: tl.constexpr):
    """1 where size > bound * tensor_scale, or equal if ties; the sign of a fused multiply-add is exact."""
    if INTERPRETED:
        difference = size.to(tl.float64) - bound.to(tl.float64) * tensor_scale.to(tl.float64)
    else:
        difference = tl.fma(-bound, tensor_scale, size)
    passed = difference >= 0 if ties else difference > 0
    return passed.to(tl.int32)


@triton.jit
def _quantize_kernel(
    x_ptr,
    parts_ptr,
    packed_ptr,
    scales_ptr,
    tensor_scale_ptr,
    rows,
    columns,
    row_stride,
    parts,
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    GATED: tl.constexpr,
    INTERPRETED: tl.constexpr,
):
    """A tile of the matrix -> its bytes and scales; tiles reach over the scales' padding, which becomes zero."""
    among_parts = tl.arange(0, PARTS)
    largest = tl.max(tl.load(parts_ptr + among_parts, mask=among_parts < parts, other=0.0), axis=0)
    tensor_scale = tl.where(largest > 0, tl.div_rn(largest, 2688.0), 1.0)
    if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
        tl.store(tensor_scale_ptr, tensor_scale)

    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    x = _read(x_ptr, row[:, None] * row_stride + column[None, :], columns, inside, GATED)
    blocks = tl.reshape(x, (ROWS, COLUMNS // 16, 16))
    sizes = tl.abs(blocks)
    code = _scale_code(tl.max(sizes, axis=2).to(tl.float64) / (6 * tensor_scale.to(tl.float64)))
    # A number passes a bound between two codes; a tie passes where the code above is the even one.
    step = scale_value(code)[:, :, None]
    numbers = _passes(sizes, 0.25 * step, tensor_scale, False, INTERPRETED)
    numbers += _passes(sizes, 0.75 * step, tensor_scale, True, INTERPRETED)
    numbers += _passes(sizes, 1.25 * step, tensor_scale, False, INTERPRETED)
    numbers += _passes(sizes, 1.75 * step, tensor_scale, True, INTERPRETED)
    numbers += _passes(sizes, 2.5 * step, tensor_scale, False, INTERPRETED)
    numbers += _passes(sizes, 3.5 * step, tensor_scale, True, INTERPRETED)
    numbers += _passes(sizes, 5.0 * step, tensor_scale, False, INTERPRETED)
    numbers = tl.where(step > 0, numbers | ((blocks < 0).to(tl.int32) << 3), 0)

    first, second = tl.split(tl.reshape(numbers, (ROWS, COLUMNS // 2, 2)))
    byte = tl.program_id(1) * (COLUMNS // 2) + tl.arange(0, COLUMNS // 2)
    places = row[:, None] * (columns // 2) + byte[None, :]
    inside = (row < rows)[:, None] & (byte < columns // 2)[None, :]
    tl.store(packed_ptr + places, (first | (second << 4)).to(tl.uint8), mask=inside)

    block = tl.program_id(1) * (COLUMNS // 16) + tl.arange(0, COLUMNS // 16)
    column_tiles = (columns + 63) // 64
    tile = (row // 128)[:, None] * column_tiles + (block // 4)[None, :]
    within = (row % 32 * 16 + row % 128 // 32 * 4)[:, None] + (block % 4)[None, :]
    tl.store(scales_ptr + tile * 512 + within, code.to(tl.uint8), mask=(block < 4 * column_tiles)[None, :])


def quantize(x: Tensor, valid: Tensor | None = None) -> Quantized:
    """Activations (R, K) -> NVFP4; see `vectorized.quantize`. Rows may lie apart, columns not."""
    return _quantized(x, x.shape[1], valid, gated=False)


def quantize_gated(hidden: Tensor) -> Quantized:
    """(R, 2 K), values and then gates -> value * SiLU(gate) (R, K) in NVFP4."""
    return _quantized(hidden, hidden.shape[1] // 2, None, gated=True)


def _quantized(x: Tensor, columns: int, valid: Tensor | None, gated: bool) -> Quantized:
    x = x if x.stride(1) == 1 else x.contiguous()
    rows = x.shape[0]
    parts = max(1, min(_PARTS, rows))
    largest = torch.empty(parts, dtype=torch.float32, device=x.device)
    _largest_kernel[(parts,)](
        x,
        x if valid is None else valid.view(torch.uint8),
        largest,
        rows,
        columns,
        x.stride(0),
        HAS_VALID=valid is not None,
        GATED=gated,
        ELEMENTS=_COLUMNS_AT_ONCE,
    )
    packed = torch.empty(rows, columns // 2, dtype=torch.uint8, device=x.device)
    scales = torch.empty(swizzled_size(rows, columns // BLOCK), dtype=torch.uint8, device=x.device)
    tensor_scale = torch.empty((), dtype=torch.float32, device=x.device)
    grid = triton.cdiv(rows, 128) * (128 // _QUANTIZED_ROWS), triton.cdiv(columns, _QUANTIZED_COLUMNS)
    _quantize_kernel[grid](
        x,
        largest,
        packed,
        scales,
        tensor_scale,
        rows,
        columns,
        x.stride(0),
        parts,
        PARTS=_PARTS,
        ROWS=_QUANTIZED_ROWS,
        COLUMNS=_QUANTIZED_COLUMNS,
        GATED=gated,
        INTERPRETED=_INTERPRETED,
    )
    return Quantized(packed, scales.view(torch.float8_e4m3fn), tensor_scale)


def builds() -> list[Build]:
    """Both kernels, of a matrix and of a gated hidden layer, for every device."""
    everywhere = {80: "", 90: "", 100: "", 120: ""}
    sizes = {"rows": "i32", "columns": "i32", "row_stride": "i32"}
    found = []
    for gated in (False, True):
        what = "gated" if gated else "plain"
        found.append(
            Build(
                f"nvfp4 largest magnitude, {what}",
                _largest_kernel,
                {"x_ptr": "*bf16", "valid_ptr": "*u8", "parts_ptr": "*fp32", **sizes},
                {"HAS_VALID": not gated, "GATED": gated, "ELEMENTS": _COLUMNS_AT_ONCE},
                everywhere,
                aligned=("columns", "row_stride"),
            )
        )
        found.append(
            Build(
                f"nvfp4 quantise, {what}",
                _quantize_kernel,
                {
                    "x_ptr": "*bf16",
                    "parts_ptr": "*fp32",
                    "packed_ptr": "*u8",
                    "scales_ptr": "*u8",
                    "tensor_scale_ptr": "*fp32",
                    **sizes,
                    "parts": "i32",
                },
                {
                    "PARTS": _PARTS,
                    "ROWS": _QUANTIZED_ROWS,
                    "COLUMNS": _QUANTIZED_COLUMNS,
                    "GATED": gated,
                    "INTERPRETED": False,
                },
                everywhere,
                aligned=("columns", "row_stride"),
            )
        )
    return found
