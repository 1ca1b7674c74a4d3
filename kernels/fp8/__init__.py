# SPDX-License-Identifier: GPL-3.0-or-later
"""Block-scaled FP8 linears: E4M3 weights, and E4M3 activations where tensor cores multiply them; see README.md.

`linear` picks by device what `path` says; `quantize_weight` makes what it takes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..devices import triton_path
from . import vectorized
from .vectorized import BLOCK, Quantized, dequantize_weight, quantize_weight

__all__ = ["BLOCK", "Quantized", "dequantize_weight", "linear", "path", "quantize", "quantize_weight"]


def path(device: torch.device | str) -> tuple[str, str]:
    """How linears are computed on a device, and why.

    Returns:
        "native" (FP8 tensor cores) or "weight only" (weights in 8 bits, activations as they are), and a clause that
        says why.

    Raises:
        RuntimeError: the GPU is too old, or Triton is missing.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return "weight only", "a CPU has no FP8 arithmetic"
    if not torch.cuda.is_available():
        return "weight only", "no graphics card is here that could be asked"
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        raise RuntimeError(f"{name} is too old for FP8 weights, which need bf16; choose a preset in fp32.")
    kernels, why = triton_path(device)
    if kernels != "fused":
        return "weight only", why
    if capability < (8, 9):
        return "weight only", f"{name} has no FP8 tensor cores"
    return "native", f"{name} has FP8 tensor cores"


def quantize(x: Tensor) -> Quantized:
    """Activations (R, K) to E4M3, a scale for every 128 numbers of a row."""
    return _fused().quantize(x) if _by_kernels(x.device) else vectorized.quantize(x)


def linear(x: Tensor, weight: Quantized, bias: Tensor | None = None, way: str | None = None) -> Tensor:
    """x (..., K), weight (N, K), bias (N,) -> (..., N) in the dtype of x; sums are fp32.

    Args:
        way: one of `path`; None for the device's own.
    """
    way, rows = way or path(x.device)[0], x.flatten(0, -2)
    kernels = _by_kernels(x.device)
    if way == "weight only":
        out = (_fused() if kernels else vectorized).weight_only_matmul(rows, weight, bias)
    elif kernels:
        out = _fused().matmul(quantize(rows), weight, bias, x.dtype)
    else:
        out = vectorized.matmul(quantize(rows), weight, bias)
    return out.to(x.dtype).unflatten(0, x.shape[:-1])


def _by_kernels(device: torch.device) -> bool:
    return triton_path(device)[0] == "fused"


def _fused():
    from . import fused

    return fused
