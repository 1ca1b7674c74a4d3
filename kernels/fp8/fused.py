# SPDX-License-Identifier: GPL-3.0-or-later
"""Block-scaled FP8 in Triton: activations rounded block by block, and products with an FP8 weight.

- native: FP8 activations and FP8 tensor cores (sm_89 and later); each 128 of K is summed up by itself and then scaled;
- weight only: bf16 activations as they are, weights unpacked to bf16, which holds E4M3 exactly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from ..devices import shipped_for
from .vectorized import Quantized

_INTERPRETED = triton.knobs.runtime.interpret
_QUANTIZED_ROWS = 32
# Way -> compute capability from which on -> K of a tile, warps and stages; tiles are 128 by 128.
_LAUNCHES = {
    "native": {89: (128, 8, 2), 90: (128, 8, 3), 100: (128, 8, 3), 120: (128, 8, 2)},
    "weight only": {80: (64, 8, 3)},
}


@triton.jit
def _quantize_kernel(
    x_ptr,
    numbers_ptr,
    scales_ptr,
    rows,
    columns,
    row_stride,
    ROWS: tl.constexpr,
):
    """Blocks of 1 by 128 of some rows -> E4M3 numbers and a scale for each."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * 128 + tl.arange(0, 128)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    x = tl.load(x_ptr + row[:, None] * row_stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
    largest = tl.max(tl.abs(x), axis=1)
    scale = tl.where(largest > 0, tl.div_rn(largest, 448.0), 1.0)
    # Dividing by a rounded scale can pass 448; the next code would be NaN.
    sizes = tl.minimum(tl.div_rn(tl.abs(x), tl.broadcast_to(scale[:, None], x.shape)), 448.0)
    bits = sizes.to(tl.int32, bitcast=True)
    # 20 of 23 bits are rounded away, ties to even; the exponent's bias falls from 127 to 7.
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) >> 20) - 960
    # Below 2^-6 in steps of 2^-9; adding 2^23 rounds to a whole number.
    subnormal = (sizes * 512 + 8388608.0).to(tl.int32, bitcast=True) & 15
    code = tl.where(sizes < 0.015625, subnormal, normal) | ((x < 0).to(tl.int32) << 7)
    tl.store(numbers_ptr + row[:, None] * columns + column[None, :], code.to(tl.uint8), mask=inside)
    blocks = (columns + 127) // 128
    tl.store(scales_ptr + row * blocks + tl.program_id(1), scale, mask=row < rows)


@triton.jit
def _number(code):
    """E4M3 bytes -> fp32."""
    size = code.to(tl.int32) & 127
    normal = ((size << 20) + 1006632960).to(tl.float32, bitcast=True)  # 120 << 23
    size = tl.where(size < 8, size.to(tl.float32) * 0.001953125, normal)
    return tl.where(code > 127, -size, size)


@triton.jit
def _matmul_kernel(
    a_ptr,
    a_scales_ptr,
    b_ptr,
    b_scales_ptr,
    bias_ptr,
    out_ptr,
    rows,
    columns,
    k,
    WAY: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    INTERPRETED: tl.constexpr,
    K: tl.constexpr,
):
    """out (rows, columns) = a b^T plus bias; a (rows, k) E4M3 bytes, or bf16 if weight only; b (columns, k) bytes."""
    row = tl.program_id(0).to(tl.int64) * 128 + tl.arange(0, 128)
    column = tl.program_id(1).to(tl.int64) * 128 + tl.arange(0, 128)
    in_rows, in_columns = (row < rows)[:, None], (column < columns)[:, None]
    blocks = (k + 127) // 128
    total = tl.zeros((128, 128), tl.float32)
    for start in range(0, k, K):
        block, number = start // 128, start + tl.arange(0, K)
        inside = (number < k)[None, :]
        a = tl.load(a_ptr + row[:, None] * k + number[None, :], mask=in_rows & inside, other=0)
        b = tl.load(b_ptr + column[:, None] * k + number[None, :], mask=in_columns & inside, other=0)
        if WAY == "native" and not INTERPRETED:
            part = tl.dot(a.to(tl.float8e4nv, bitcast=True), b.to(tl.float8e4nv, bitcast=True).T)
        else:
            a_numbers = a.to(tl.float32) if WAY == "weight only" else _number(a)
            b_numbers = _number(b)
            if not INTERPRETED:
                a_numbers, b_numbers = a_numbers.to(tl.bfloat16), b_numbers.to(tl.bfloat16)
            part = tl.dot(a_numbers, b_numbers.T)
        scale = tl.load(b_scales_ptr + tl.program_id(1) * blocks + block)
        if WAY == "native":
            part *= tl.load(a_scales_ptr + row * blocks + block, mask=row < rows, other=0.0)[:, None]
        total += part * scale
    if HAS_BIAS:
        total += tl.load(bias_ptr + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    inside = in_rows & (column < columns)[None, :]
    places = row[:, None] * columns + column[None, :]
    tl.store(out_ptr + places, total.to(out_ptr.dtype.element_ty), mask=inside)


def quantize(x: Tensor) -> Quantized:
    """Activations (R, K), a scale for every 128 numbers of a row; see `vectorized.quantize`."""
    x = x if x.stride(1) == 1 else x.contiguous()
    rows, columns = x.shape
    blocks = triton.cdiv(columns, 128)
    numbers = torch.empty(rows, columns, dtype=torch.uint8, device=x.device)
    scales = torch.empty(rows, blocks, dtype=torch.float32, device=x.device)
    _quantize_kernel[(triton.cdiv(rows, _QUANTIZED_ROWS), blocks)](
        x, numbers, scales, rows, columns, x.stride(0), ROWS=_QUANTIZED_ROWS
    )
    return Quantized(numbers.view(torch.float8_e4m3fn), scales)


def matmul(a: Quantized, b: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """a (M, K) activations, b (N, K) weight -> (M, N) in `dtype`."""
    return _launched("native", a.numbers.view(torch.uint8), a.scales, b, bias, dtype)


def weight_only_matmul(x: Tensor, weight: Quantized, bias: Tensor | None) -> Tensor:
    """x (M, K), rounded to bf16 if it is not -> (M, N) in its dtype."""
    return _launched("weight only", x.contiguous(), weight.scales, weight, bias, x.dtype)


def _launched(
    way: str, a: Tensor, a_scales: Tensor, b: Quantized, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:
    rows, (columns, k) = a.shape[0], b.numbers.shape
    out = torch.empty(rows, columns, dtype=dtype, device=a.device)
    k_tile, warps, stages = shipped_for(a.device, _LAUNCHES[way])
    _matmul_kernel[(triton.cdiv(rows, 128), triton.cdiv(columns, 128))](
        a,
        a_scales,
        b.numbers.view(torch.uint8),
        b.scales,
        out if bias is None else bias,
        out,
        rows,
        columns,
        k,
        WAY=way,
        HAS_BIAS=bias is not None,
        INTERPRETED=_INTERPRETED,
        K=k_tile,
        num_warps=warps,
        num_stages=stages,
    )
    return out


def builds() -> list[Build]:
    """Both kernels, for the devices that each is shipped for."""
    of_fp8 = {
        90: r"wgmma\.mma_async\.[\w.]*e4m3\.e4m3",
        100: r"tcgen05\.mma\.[\w:.]*kind::f8f6f4",
        120: r"mma\.sync\.[\w.:]*e4m3\.e4m3[\w.]*",
    }
    of_bf16 = {80: r"mma\.sync\.[\w.]*bf16\.bf16[\w.]*"}
    sizes = dict.fromkeys(("rows", "columns", "k"), "i32")
    pointers = {"a_scales_ptr": "*fp32", "b_ptr": "*u8", "b_scales_ptr": "*fp32"}
    found = [
        Build(
            "fp8 quantise",
            _quantize_kernel,
            {
                "x_ptr": "*bf16",
                "numbers_ptr": "*u8",
                "scales_ptr": "*fp32",
                **dict.fromkeys(("rows", "columns", "row_stride"), "i32"),
            },
            {"ROWS": _QUANTIZED_ROWS},
            dict.fromkeys(of_fp8, ""),
            aligned=("columns", "row_stride"),
        )
    ]
    for way, instructions in (("native", of_fp8), ("weight only", of_bf16)):
        for capability, instruction in instructions.items():
            k_tile, warps, stages = _LAUNCHES[way][capability]
            found.append(
                Build(
                    f"fp8 matmul, {way}, 128x128x{k_tile}",
                    _matmul_kernel,
                    {
                        "a_ptr": "*u8" if way == "native" else "*bf16",
                        **pointers,
                        "bias_ptr": "*bf16",
                        "out_ptr": "*bf16",
                        **sizes,
                    },
                    {"WAY": way, "HAS_BIAS": True, "INTERPRETED": False, "K": k_tile},
                    {capability: instruction},
                    warps=warps,
                    stages=stages,
                    aligned=("columns", "k"),
                )
            )
    return found
