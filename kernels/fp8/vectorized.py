# SPDX-License-Identifier: GPL-3.0-or-later
"""Block-scaled FP8 in torch, in fp32: what a CPU runs, and what quantises weights on any device."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 128
LARGEST = 448.0
# Elements of a weight that are unpacked at a time.
_ELEMENTS_AT_ONCE = 1 << 22


class Quantized(NamedTuple):
    """A matrix (R, K) in memory.

    Attributes:
        numbers: (R, K) float8_e4m3fn.
        scales: fp32 multipliers of the decoder, (ceil(R / 128), ceil(K / 128)) of a weight, (R, ceil(K / 128)) of
            activations.
    """

    numbers: Tensor
    scales: Tensor


def quantize(x: Tensor) -> Quantized:
    """Activations (R, K), a scale for every 128 numbers of a row."""
    blocks = F.pad(x.float(), (0, -x.shape[1] % BLOCK)).unflatten(1, (-1, BLOCK))
    scales = _scales(blocks.abs().amax(dim=2))
    numbers = _rounded(blocks / scales.unsqueeze(2)).flatten(1)
    return Quantized(numbers[:, : x.shape[1]].contiguous(), scales)


def quantize_weight(weight: Tensor) -> Quantized:
    """A weight (N, K), a scale for every 128 by 128 numbers; works on a part of the rows at a time."""
    numbers, scales = [], []
    step = max(BLOCK, _ELEMENTS_AT_ONCE // weight.shape[1] // BLOCK * BLOCK)
    for rows in weight.split(step):
        padded = F.pad(rows.float(), (0, -rows.shape[1] % BLOCK, 0, -rows.shape[0] % BLOCK))
        blocks = padded.unflatten(1, (-1, BLOCK)).unflatten(0, (-1, BLOCK))  # tile, row, tile, column
        own = _scales(blocks.abs().amax(dim=(1, 3)))
        rounded = _rounded(blocks / own[:, None, :, None]).flatten(0, 1).flatten(1)
        numbers.append(rounded[: rows.shape[0], : rows.shape[1]])
        scales.append(own)
    return Quantized(torch.cat(numbers).contiguous(), torch.cat(scales))


def dequantize_weight(weight: Quantized) -> Tensor:
    """-> (N, K) fp32"""
    steps = weight.scales.repeat_interleave(BLOCK, dim=0).repeat_interleave(BLOCK, dim=1)
    rows, columns = weight.numbers.shape
    return weight.numbers.float() * steps[:rows, :columns]


def matmul(a: Quantized, b: Quantized, bias: Tensor | None = None) -> Tensor:
    """a (M, K) activations, b (N, K) weight -> (M, N) fp32, as FP8 tensor cores compute it but for rounding of sums."""
    steps = a.scales.repeat_interleave(BLOCK, dim=1)[:, : a.numbers.shape[1]]
    return weight_only_matmul(a.numbers.float() * steps, b, bias)


def weight_only_matmul(x: Tensor, weight: Quantized, bias: Tensor | None = None) -> Tensor:
    """x (M, K) as it is, weight (N, K) -> (M, N) fp32."""
    x, rows = x.float(), weight.numbers.shape[0]
    out = x.new_empty(x.shape[0], rows)
    step = max(BLOCK, _ELEMENTS_AT_ONCE // x.shape[1] // BLOCK * BLOCK)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        scales = weight.scales[start // BLOCK : (start + step) // BLOCK]
        out[:, part] = x @ dequantize_weight(Quantized(weight.numbers[part], scales)).T
    return out if bias is None else out.add_(bias.float())


def _scales(amax: Tensor) -> Tensor:
    return torch.where(amax > 0, amax / LARGEST, 1.0)


def _rounded(x: Tensor) -> Tensor:
    """To nearest, ties to even. Dividing by a rounded scale can pass 448, the next code would be NaN."""
    return x.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
