# SPDX-License-Identifier: GPL-3.0-or-later
"""Block-scaled FP8 as its definition reads: fp32, one block at a time.

E4M3 numbers; an fp32 scale for 128 by 128 numbers of a weight, for 1 by 128 of an activation; a block at the end may be
smaller. Scales are multipliers of the decoder.
"""

from bisect import bisect_left

import torch
from torch import Tensor

BLOCK = 128
# Codes 0 to 126; 127 is NaN.
E4M3 = tuple((c % 8) * 2.0**-9 if c < 8 else (1 + c % 8 / 8) * 2.0 ** (c // 8 - 7) for c in range(127))


def e4m3(value: float) -> float:
    """The nearest E4M3 number; of two equally near ones that of even code; saturating at 448."""
    above = min(bisect_left(E4M3, abs(value)), 126)
    code = min((above, max(above - 1, 0)), key=lambda code: (abs(E4M3[code] - abs(value)), code % 2))
    return -E4M3[code] if value < 0 else E4M3[code]


def quantize(x: Tensor, block_rows: int) -> tuple[Tensor, Tensor]:
    """x (R, K) -> numbers (R, K) fp32 that E4M3 has, and scales (ceil(R / block_rows), ceil(K / 128)) fp32."""
    x = x.float()
    numbers = torch.zeros_like(x)
    scales = torch.ones(-(-x.shape[0] // block_rows), -(-x.shape[1] // BLOCK))
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            rows, columns = slice(i * block_rows, (i + 1) * block_rows), slice(j * BLOCK, (j + 1) * BLOCK)
            amax = x[rows, columns].abs().max()
            if amax > 0:
                scales[i, j] = amax / 448
            quotients = x[rows, columns] / scales[i, j]
            rounded = [e4m3(value) for value in quotients.flatten().tolist()]
            numbers[rows, columns] = torch.tensor(rounded).view(quotients.shape)
    return numbers, scales


def dequantize(numbers: Tensor, scales: Tensor, block_rows: int) -> Tensor:
    steps = scales.repeat_interleave(block_rows, dim=0).repeat_interleave(BLOCK, dim=1)
    return numbers * steps[: numbers.shape[0], : numbers.shape[1]]


def matmul(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], bias: Tensor | None = None) -> Tensor:
    """a (M, K) quantised with 1 row, b (N, K) with 128 -> (M, N) fp32; a sum for each 128 of K, then its scales."""
    out = torch.zeros(a[0].shape[0], b[0].shape[0])
    for j in range(a[1].shape[1]):
        columns = slice(j * BLOCK, (j + 1) * BLOCK)
        of_weight = b[1][:, j].repeat_interleave(BLOCK)[: out.shape[1]]
        out += a[0][:, columns] @ b[0][:, columns].T * (a[1][:, j, None] * of_weight)
    return out if bias is None else out + bias
