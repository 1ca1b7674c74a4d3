# SPDX-License-Identifier: GPL-3.0-or-later
"""NVFP4 as its definition reads: one number, block or scale at a time.

Formats and rounding follow NVIDIA's NVFP4 and the OCP microscaling formats: E2M1 numbers, an E4M3 scale for every 16 of
them along K, one fp32 scale for the tensor, all of them multipliers of the decoder. Python's floats are double, so that
a quotient is rounded once, to E2M1 or E4M3, and never to a tie that is none.
"""

from bisect import bisect_left

import torch
from torch import Tensor

BLOCK = 16
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Codes 0 to 126; 127 is NaN.
E4M3 = tuple((c % 8) * 2.0**-9 if c < 8 else (1 + c % 8 / 8) * 2.0 ** (c // 8 - 7) for c in range(127))


def nearest(value: float, table: tuple[float, ...]) -> int:
    """The code of the nearest number of a rising table; of two equally near ones the even code; saturating."""
    above = min(bisect_left(table, value), len(table) - 1)
    return min((above, max(above - 1, 0)), key=lambda code: (abs(table[code] - value), code % 2))


def e2m1_code(value: float) -> int:
    """The 4-bit code of a number, its sign in bit 3."""
    return nearest(abs(value), E2M1) + (8 if value < 0 else 0)


def e2m1_value(code: int) -> float:
    return -E2M1[code - 8] if code >= 8 else E2M1[code]


def quantize(x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """x (R, K) -> codes (R, K) uint8, block scales (R, K / 16) as E4M3 codes in uint8, tensor scale () fp32.

    valid (R,) bool: rows that count for the tensor's scale; None for all.
    """
    x = x.float()
    counted = x if valid is None else x[valid]
    amax = counted.abs().max() if counted.numel() else torch.tensor(0.0)
    tensor_scale = amax / (6 * 448) if amax > 0 else torch.tensor(1.0)
    codes = torch.zeros(x.shape, dtype=torch.uint8)
    scales = torch.zeros(x.shape[0], x.shape[1] // BLOCK, dtype=torch.uint8)
    for row in range(x.shape[0]):
        for column in range(scales.shape[1]):
            block = x[row, BLOCK * column : BLOCK * (column + 1)].tolist()
            code = nearest(max(map(abs, block)) / (6 * tensor_scale.item()), E4M3)
            scales[row, column], step = code, E4M3[code] * tensor_scale.item()
            if step > 0:
                for i, value in enumerate(block):
                    codes[row, BLOCK * column + i] = e2m1_code(value / step)
    return codes, scales, tensor_scale


def scaled_numbers(codes: Tensor, scales: Tensor) -> Tensor:
    """The numbers (R, K) fp32 that tensor cores multiply: element times block scale."""
    numbers = torch.tensor([e2m1_value(code) for code in codes.flatten().tolist()]).view(codes.shape)
    steps = torch.tensor([E4M3[code] for code in scales.flatten().tolist()]).view(scales.shape)
    return numbers * steps.repeat_interleave(BLOCK, dim=1)


def dequantize(codes: Tensor, scales: Tensor, tensor_scale: Tensor) -> Tensor:
    return scaled_numbers(codes, scales) * tensor_scale


def matmul(a: tuple, b: tuple, bias: Tensor | None = None) -> Tensor:
    """a (M, K), b (N, K), both from `quantize` -> (M, N) fp32; tensor scales once, behind the sum, then the bias."""
    out = scaled_numbers(*a[:2]) @ scaled_numbers(*b[:2]).T * (a[2] * b[2])
    return out if bias is None else out + bias


def pack(codes: Tensor) -> Tensor:
    """Codes (R, K) -> (R, K / 2) bytes; the first of two numbers in the low four bits."""
    return codes[:, 0::2] | codes[:, 1::2] << 4


def unpack(packed: Tensor) -> Tensor:
    return torch.stack([packed & 15, packed >> 4], dim=2).flatten(1)


def swizzled_place(row: int, column: int, columns: int) -> int:
    """Where the scale of a row and a block column lies among tiles of 128 rows by 4 columns, each 32 by 4 by 4."""
    tile = row // 128 * -(-columns // 4) + column // 4
    return tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + column % 4


def swizzle(scales: Tensor) -> Tensor:
    """Scales (R, C) -> flat, R padded to 128 and C to 4 with zeros."""
    rows, columns = scales.shape
    out = torch.zeros(-(-rows // 128) * 128 * (-(-columns // 4) * 4), dtype=scales.dtype)
    for row in range(rows):
        for column in range(columns):
            out[swizzled_place(row, column, columns)] = scales[row, column]
    return out
