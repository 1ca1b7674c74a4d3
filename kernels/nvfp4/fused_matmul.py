# SPDX-License-Identifier: GPL-3.0-or-later
"""NVFP4 in Triton, second half: products with a 4-bit weight, in three ways.

- native: 4-bit activations, FP4 tensor cores apply the block scales (sm_100, sm_120);
- emulated: the same numbers exactly, element times block scale in bf16, bf16 tensor cores;
- weight only: bf16 activations as they are, the weight as in the emulation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from ..devices import shipped_for
from .fused import scale_value
from .vectorized import Quantized

_INTERPRETED = triton.knobs.runtime.interpret


@triton.jit
def _scales(scales_ptr, row_tile, k_tile, column_tiles, ROWS: tl.constexpr, K: tl.constexpr):
    """Scales (ROWS, K / 16) of a tile of the matrix, from the swizzled layout; ROWS / 128 and K / 64 are whole."""
    ROW_TILES: tl.constexpr = ROWS // 128
    COLUMN_TILES: tl.constexpr = K // 64
    tiles = tl.arange(0, ROW_TILES)[:, None] + row_tile * ROW_TILES
    columns = tl.arange(0, COLUMN_TILES)[None, :] + k_tile * COLUMN_TILES
    starts = (tiles.to(tl.int64) * column_tiles + columns) * 512
    places = starts[:, :, None] + tl.arange(0, 512)[None, None, :]
    stored = tl.load(scales_ptr + places, mask=(columns < column_tiles)[:, :, None], other=0)
    stored = tl.reshape(stored, (ROW_TILES, COLUMN_TILES, 32, 4, 4))
    return tl.reshape(tl.permute(stored, (0, 3, 2, 1, 4)), (ROWS, K // 16))


@triton.jit
def _numbers(packed, scales, ROWS: tl.constexpr, K: tl.constexpr):
    """Bytes (ROWS, K / 2) and scales (ROWS, K / 16) -> element times block scale (ROWS, K), exact in bf16."""
    byte = packed.to(tl.int32)
    code = tl.reshape(tl.join(byte & 15, byte >> 4), (ROWS, K))
    # The three bits behind the sign are exponent and mantissa of an fp32 number, but for the exponent 0.
    size = (((code & 7) << 22) + 1056964608).to(tl.float32, bitcast=True)  # 126 << 23
    size = tl.where((code & 7) < 2, 2 * size - 1, size)
    number = tl.where(code > 7, -size, size)
    steps = scale_value(scales.to(tl.int32))[:, :, None]
    return tl.reshape(tl.reshape(number, (ROWS, K // 16, 16)) * steps, (ROWS, K))


@triton.jit
def _matmul_kernel(
    a_ptr,
    a_scales_ptr,
    a_tensor_scale_ptr,
    b_ptr,
    b_scales_ptr,
    b_tensor_scale_ptr,
    bias_ptr,
    out_ptr,
    rows,
    columns,
    packed_k,
    WAY: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    INTERPRETED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    K: tl.constexpr,
):
    """out (rows, columns) = a b^T times the tensor scales, plus bias.

    a (rows, packed_k) bytes, or (rows, 2 packed_k) bf16 if weight only; b (columns, packed_k) bytes.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    in_rows, in_columns = (row < rows)[:, None], (column < columns)[:, None]
    byte, number = tl.arange(0, K // 2), tl.arange(0, K)
    column_tiles = (packed_k + 31) // 32
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k_tile in range(0, tl.cdiv(2 * packed_k, K)):
        bytes_left = packed_k - k_tile * (K // 2)
        in_bytes = (byte < bytes_left)[None, :]
        b_places = column[:, None] * packed_k + (k_tile * (K // 2) + byte)[None, :]
        b = tl.load(b_ptr + b_places, mask=in_columns & in_bytes, other=0)
        b_scales = _scales(b_scales_ptr, tl.program_id(1), k_tile, column_tiles, COLUMNS, K)
        if WAY == "weight only":
            a_places = row[:, None] * (2 * packed_k) + (k_tile * K + number)[None, :]
            in_a = in_rows & (number < 2 * bytes_left)[None, :]
            a = tl.load(a_ptr + a_places, mask=in_a, other=0.0)
        else:
            a_places = row[:, None] * packed_k + (k_tile * (K // 2) + byte)[None, :]
            a = tl.load(a_ptr + a_places, mask=in_rows & in_bytes, other=0)
            a_scales = _scales(a_scales_ptr, tl.program_id(0), k_tile, column_tiles, ROWS, K)
        if WAY == "native" and not INTERPRETED:
            a_scales = a_scales.to(tl.float8e4nv, bitcast=True)
            b_scales = b_scales.to(tl.float8e4nv, bitcast=True)
            total = tl.dot_scaled(a, a_scales, "e2m1", b.T, b_scales, "e2m1", total)
        else:
            b_numbers = _numbers(b, b_scales, COLUMNS, K)
            a_numbers = a.to(tl.float32) if WAY == "weight only" else _numbers(a, a_scales, ROWS, K)
            if not INTERPRETED:
                a_numbers, b_numbers = a_numbers.to(tl.bfloat16), b_numbers.to(tl.bfloat16)
            total = tl.dot(a_numbers, b_numbers.T, total)
    alpha = tl.load(b_tensor_scale_ptr)
    if WAY != "weight only":
        alpha *= tl.load(a_tensor_scale_ptr)
    total *= alpha
    column = tl.program_id(1).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    if HAS_BIAS:
        total += tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    places = row[:, None] * columns + column[None, :]
    inside = in_rows & (column < columns)[None, :]
    tl.store(out_ptr + places, total.to(out_ptr.dtype.element_ty), mask=inside)


@dataclass(frozen=True)
class _Tile:
    k: int
    warps: int
    stages: int
    rows: int = 128
    columns: int = 128


# Way -> compute capability from which on -> tile.
_UNPACKED = {80: _Tile(64, 8, 3), 90: _Tile(64, 8, 3), 100: _Tile(64, 8, 3), 120: _Tile(64, 8, 3)}
_TILES = {
    "native": {100: _Tile(256, 4, 3), 120: _Tile(128, 8, 3)},
    "emulated": _UNPACKED,
    "weight only": _UNPACKED,
}
_INSTRUCTIONS = {
    "native": {
        100: r"tcgen05\.mma\.[\w:.]*kind::mxf4nvf4\.block_scale[\w:.]*",
        120: r"mma\.sync\.[\w.]*kind::mxf4nvf4\.block_scale\.scale_vec::4X[\w.]*ue4m3",
    },
    "bf16": {
        80: r"mma\.sync\.[\w.]*bf16\.bf16[\w.]*",
        90: r"wgmma\.mma_async\.[\w.]*bf16\.bf16",
        100: r"tcgen05\.mma\.[\w:.]*kind::f16",
        120: r"mma\.sync\.[\w.]*bf16\.bf16[\w.]*",
    },
}


def matmul(a: Quantized, b: Quantized, bias: Tensor | None, dtype: torch.dtype, way: str) -> Tensor:
    """a (M, K), b (N, K) -> (M, N) in `dtype`; `way` is "native" or "emulated", with equal results but for sums."""
    return _launched(way, a.packed, a.scales, a.tensor_scale, b, bias, dtype)


def weight_only_matmul(x: Tensor, weight: Quantized, bias: Tensor | None) -> Tensor:
    """x (M, K), rounded to bf16 if it is not -> (M, N) in its dtype."""
    return _launched("weight only", x.contiguous(), weight.scales, weight.tensor_scale, weight, bias, x.dtype)


def _launched(
    way: str,
    a: Tensor,
    a_scales: Tensor,
    a_tensor_scale: Tensor,
    b: Quantized,
    bias: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    rows, (columns, packed_k) = a.shape[0], b.packed.shape
    out = torch.empty(rows, columns, dtype=dtype, device=a.device)
    tile = shipped_for(a.device, _TILES[way])
    grid = triton.cdiv(rows, tile.rows), triton.cdiv(columns, tile.columns)
    _matmul_kernel[grid](
        a,
        a_scales.view(torch.uint8),
        a_tensor_scale,
        b.packed,
        b.scales.view(torch.uint8),
        b.tensor_scale,
        out if bias is None else bias,
        out,
        rows,
        columns,
        packed_k,
        WAY=way,
        HAS_BIAS=bias is not None,
        INTERPRETED=_INTERPRETED,
        ROWS=tile.rows,
        COLUMNS=tile.columns,
        K=tile.k,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return out


def builds() -> list[Build]:
    """Every way in every tile that is shipped."""
    found = []
    for way, tiles in _TILES.items():
        for tile in dict.fromkeys(tiles.values()):
            where = [capability for capability, own in tiles.items() if own == tile]
            instructions = _INSTRUCTIONS.get(way, _INSTRUCTIONS["bf16"])
            found.append(
                Build(
                    f"nvfp4 matmul, {way}, {tile.rows}x{tile.columns}x{tile.k}",
                    _matmul_kernel,
                    {
                        "a_ptr": "*bf16" if way == "weight only" else "*u8",
                        "a_scales_ptr": "*u8",
                        "a_tensor_scale_ptr": "*fp32",
                        "b_ptr": "*u8",
                        "b_scales_ptr": "*u8",
                        "b_tensor_scale_ptr": "*fp32",
                        "bias_ptr": "*bf16",
                        "out_ptr": "*bf16",
                        **dict.fromkeys(("rows", "columns", "packed_k"), "i32"),
                    },
                    {
                        "WAY": way,
                        "HAS_BIAS": True,
                        "INTERPRETED": False,
                        "ROWS": tile.rows,
                        "COLUMNS": tile.columns,
                        "K": tile.k,
                    },
                    {capability: instructions[capability] for capability in where},
                    warps=tile.warps,
                    stages=tile.stages,
                    aligned=("columns", "packed_k"),
                )
            )
    return found
