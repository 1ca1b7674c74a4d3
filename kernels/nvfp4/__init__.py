# SPDX-License-Identifier: GPL-3.0-or-later
"""NVFP4 linears: 4-bit weights, and 4-bit activations where tensor cores multiply them; see README.md.

`linear` and `gated_linear` pick by device what `path` says; `quantize_weight` makes what they take.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from . import golden, vectorized
from .vectorized import BLOCK, Quantized, dequantize, quantize_weight, swizzle, swizzled_size, unswizzle

__all__ = [
    "BLOCK",
    "Quantized",
    "dequantize",
    "gated_linear",
    "linear",
    "path",
    "quantize",
    "quantize_weight",
    "self_test",
    "swizzle",
    "swizzled_size",
    "unswizzle",
]
# Generations whose tensor cores multiply FP4: data-centre and consumer Blackwell.
_WITH_FP4 = (10, 12)


def path(device: torch.device | str) -> tuple[str, str]:
    """How linears are computed on a device, and why.

    Returns:
        "native" (FP4 tensor cores), "emulated" (the same numbers, exactly, in bf16) or "weight only" (weights in
        4 bits, activations as they are), and a clause that says why.

    Raises:
        RuntimeError: the GPU is too old, or Triton is missing.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return "weight only", "a CPU has no FP4 arithmetic"
    if not torch.cuda.is_available():
        return "weight only", "no graphics card is here that could be asked"
    return _gpu_path(torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _gpu_path(index: int) -> tuple[str, str]:
    name, (major, _) = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    if major < 8:
        raise RuntimeError(f"{name} is too old for NVFP4, which needs bf16; choose a preset in fp32.")
    if major not in _WITH_FP4:
        return "weight only", f"{name} has no FP4 tensor cores"
    device = torch.device("cuda", index)
    wrong = golden.why_wrong(device, quantize, functools.partial(_tested_product, "native"))
    if wrong:
        return "emulated", f"the FP4 tensor cores of {name} gave {wrong} in their test"
    return "native", f"the FP4 tensor cores of {name} passed their test"


def self_test(device: torch.device | str) -> tuple[str, str]:
    """Whether a device computes NVFP4 as it is defined, on a vector with known bytes and a product with a known result.

    Returns:
        What was tested, one of `path` or "vectorized" (torch on a CPU), and what is wrong with it, as the end of a
        sentence; "" if it passed.

    Raises:
        RuntimeError: as in `path`.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return "vectorized", golden.why_wrong(device, vectorized.quantize, vectorized.matmul)
    way = path(device)[0]
    return way, golden.why_wrong(device, quantize, functools.partial(_tested_product, way))


def _tested_product(way: str, a: Quantized, b: Quantized) -> Tensor:
    """a (M, K), b (N, K) -> (M, N) fp32 by the kernels of a way."""
    products = _fused()[1]
    if way == "weight only":
        # Without the tensor's scale the numbers are exact in the bf16 that the kernel multiplies.
        numbers = vectorized.dequantize(a) / a.tensor_scale
        return products.weight_only_matmul(numbers, b, None) * a.tensor_scale
    return products.matmul(a, b, None, torch.float32, way)


def quantize(x: Tensor, valid: Tensor | None = None) -> Quantized:
    """Activations (R, K) to NVFP4 with a scale of this call.

    Args:
        valid: (R,) bool, rows that count for the tensor's scale, padding left out; None for all.
    """
    if x.device.type == "cuda":
        return _fused()[0].quantize(x, valid)
    return vectorized.quantize(x, valid)


def linear(x: Tensor, weight: Quantized, bias: Tensor | None = None, way: str | None = None) -> Tensor:
    """x (..., K), weight (N, K), bias (N,) -> (..., N) in the dtype of x; sums are fp32.

    Args:
        way: one of `path`; None for the device's own.
    """
    way, rows = way or path(x.device)[0], x.flatten(0, -2)
    if way == "weight only":
        if x.device.type == "cuda":
            out = _fused()[1].weight_only_matmul(rows, weight, bias)
        else:
            out = vectorized.weight_only_matmul(rows, weight, bias)
    else:
        out = _product(quantize(rows), weight, bias, x.dtype, way)
    return out.to(x.dtype).unflatten(0, x.shape[:-1])


def gated_linear(
    hidden: Tensor, weight: Quantized, bias: Tensor | None = None, way: str | None = None
) -> Tensor:
    """`linear` of value * SiLU(gate); hidden (..., 2 K) holds values and then gates.

    With 4-bit activations on a GPU the product is rounded where it is made, and never written as such.
    """
    way = way or path(hidden.device)[0]
    if way == "weight only" or hidden.device.type != "cuda":
        return linear(vectorized.gated(hidden).to(hidden.dtype), weight, bias, way)
    packed = _fused()[0].quantize_gated(hidden.flatten(0, -2))
    return _product(packed, weight, bias, hidden.dtype, way).unflatten(0, hidden.shape[:-1])


def _product(a: Quantized, b: Quantized, bias: Tensor | None, dtype: torch.dtype, way: str) -> Tensor:
    if a.packed.device.type == "cuda":
        return _fused()[1].matmul(a, b, bias, dtype, way)
    return vectorized.matmul(a, b, bias)


def _fused():
    try:
        from . import fused, fused_matmul
    except ModuleNotFoundError as error:
        raise RuntimeError(f"Kernels on a GPU need {error.name}; set the backend up again.") from None
    return fused, fused_matmul
