# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases of linears with weights in 4 and in 8 bits, in every way that a device can compute them."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import torch
from torch import Tensor

from kernels import fp8, nvfp4
from kernels.fp8 import naive as fp8_naive
from kernels.nvfp4 import naive as nvfp4_naive
from kernels.nvfp4 import vectorized as nvfp4_layout

from ..cards import BYTES
from .case import GATES, Compared, OperatorCases, Sizes, Timed, randn, working_dtype

# Rows, K and N of odd products: over several tiles, the last of them in part.
_ROWS, _K, _N = 37, 176, 144
# Codes of activations that were made of a rounded product may lie on the other side of a bound.
_GATED = 2e-2


def _given(device: torch.device, columns: int) -> tuple[Tensor, torch.dtype]:
    """Activations that bf16 holds exactly, and the dtype in which the device gets them."""
    return randn(_ROWS, columns, seed=1).bfloat16().float(), working_dtype(device)


def _nvfp4_codes(weight: nvfp4.Quantized) -> tuple[Tensor, Tensor, Tensor]:
    """As `naive` has a matrix: codes, scales row by row, the tensor's scale."""
    scales = nvfp4_layout.linear_scales(weight).view(torch.uint8)
    return nvfp4_naive.unpack(weight.packed), scales, weight.tensor_scale


def _nvfp4_rounding(device: torch.device) -> Iterator[Compared]:
    x, dtype = _given(device, _K)
    got = nvfp4.quantize(x.to(device, dtype))
    codes, scales, tensor_scale = nvfp4_naive.quantize(x)
    yield Compared("numbers", got.packed, nvfp4_naive.pack(codes), 0)
    yield Compared("scales", got.scales.view(torch.uint8), nvfp4_naive.swizzle(scales), 0)
    yield Compared("tensor's scale", got.tensor_scale, tensor_scale, 0)


def _nvfp4_products(device: torch.device) -> Iterator[Compared]:
    x, dtype = _given(device, _K)
    weight, bias = nvfp4.quantize_weight(randn(_N, _K, seed=2)), randn(_N, seed=3)
    there = nvfp4.Quantized(*(part.to(device) for part in weight))
    codes = _nvfp4_codes(weight)
    truths = {
        "weight only": x @ nvfp4_naive.dequantize(*codes).T + bias,
        "4 bits": nvfp4_naive.matmul(nvfp4_naive.quantize(x), codes, bias),
    }
    for way in dict.fromkeys((nvfp4.path(device)[0], "weight only", "emulated")):
        got = nvfp4.linear(x.to(device, dtype), there, bias.to(device, dtype), way)
        truth = truths["weight only" if way == "weight only" else "4 bits"]
        yield Compared(f"product, {way}", got, truth, GATES[dtype])


def _nvfp4_gated(device: torch.device) -> Iterator[Compared]:
    hidden, dtype = _given(device, 2 * _K)
    weight = nvfp4.quantize_weight(randn(_N, _K, seed=2))
    there = nvfp4.Quantized(*(part.to(device) for part in weight))
    value, gate = hidden.chunk(2, dim=1)
    inner = value * gate * torch.sigmoid(gate)
    truth = nvfp4_naive.matmul(nvfp4_naive.quantize(inner), _nvfp4_codes(weight))
    got = nvfp4.gated_linear(hidden.to(device, dtype), there, None, "emulated")
    yield Compared("product of a gated layer, emulated", got, truth, _GATED)


def _fp8_rounding(device: torch.device) -> Iterator[Compared]:
    x, dtype = _given(device, _K)
    got = fp8.quantize(x.to(device, dtype))
    numbers, scales = fp8_naive.quantize(x, 1)
    yield Compared("numbers", got.numbers.float(), numbers, 0)
    yield Compared("scales", got.scales, scales, 0)


def _fp8_products(device: torch.device) -> Iterator[Compared]:
    x, dtype = _given(device, _K)
    weight, bias = fp8.quantize_weight(randn(_N, _K, seed=2)), randn(_N, seed=3)
    there = fp8.Quantized(*(part.to(device) for part in weight))
    plain = weight.numbers.float(), weight.scales
    truths = {
        "weight only": x @ fp8_naive.dequantize(*plain, fp8.BLOCK).T + bias,
        "native": fp8_naive.matmul(fp8_naive.quantize(x, 1), plain, bias),
    }
    # A CPU has the numbers of FP8 tensor cores too; a card without them has not.
    own = ("native",) if device.type == "cpu" else (fp8.path(device)[0],)
    for way in dict.fromkeys((*own, "weight only")):
        got = fp8.linear(x.to(device, dtype), there, bias.to(device, dtype), way)
        yield Compared(f"product, {way}", got, truths[way], GATES[dtype])


def _timed(
    operator: ModuleType, format: str, shape: str, sizes: Sizes, frames: int, device: torch.device
) -> Timed:
    """One of the two largest linears of a stage-1 block."""
    k, n = (sizes.width, 3 * sizes.width) if shape == "qkv" else (sizes.width, 2 * sizes.hidden)
    x = torch.randn(frames * sizes.cells, k, device=device, dtype=working_dtype(device))
    weight = operator.quantize_weight(torch.randn(n, k, device=device) / k**0.5)
    moved = x.element_size() * (x.numel() + len(x) * n) + BYTES[format] * n * k
    return Timed(lambda: operator.linear(x, weight), 2 * len(x) * n * k, moved, format)


def _timed_gated(sizes: Sizes, frames: int, device: torch.device) -> Timed:
    hidden = torch.randn(frames * sizes.cells, 2 * sizes.hidden, device=device, dtype=working_dtype(device))
    weight = nvfp4.quantize_weight(torch.randn(sizes.width, sizes.hidden, device=device) / sizes.hidden**0.5)
    outputs = len(hidden) * sizes.width
    moved = hidden.element_size() * (hidden.numel() + outputs) + BYTES["nvfp4"] * sizes.width * sizes.hidden
    flop = 2 * outputs * sizes.hidden
    return Timed(lambda: nvfp4.gated_linear(hidden, weight), flop, moved, "nvfp4")


def _shapes(operator: ModuleType, format: str) -> dict:
    return {
        f"linear, {shape}": lambda sizes, frames, device, shape=shape: _timed(
            operator, format, shape, sizes, frames, device
        )
        for shape in ("qkv", "feed-forward up")
    }


NVFP4 = OperatorCases(
    parity={"rounding": _nvfp4_rounding, "linear": _nvfp4_products, "gated linear": _nvfp4_gated},
    timed={**_shapes(nvfp4, "nvfp4"), "gated linear, feed-forward down": _timed_gated},
)
FP8 = OperatorCases(parity={"rounding": _fp8_rounding, "linear": _fp8_products}, timed=_shapes(fp8, "fp8"))
