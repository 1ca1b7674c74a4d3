# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that stand in for a linear or a 1x1 convolution, with its weight in 4 or 8 bits; for inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kernels import fp8, gated_unit, nvfp4


class QuantizedLinear(nn.Module):
    """What both have in common.

    Attributes:
        format: name of the number format, as presets have it.
        way: how to compute, see `path` of the kernels; None for the device's own way.
    """

    format: str
    way: str | None = None

    def __init__(self, inputs: int, outputs: int, has_bias: bool) -> None:
        super().__init__()
        for name, (shape, dtype) in self.layout(inputs, outputs).items():
            empty = torch.empty(shape, dtype=dtype)
            self.register_parameter(name, nn.Parameter(empty, requires_grad=False))
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False) if has_bias else None

    @staticmethod
    def layout(inputs: int, outputs: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shape and dtype of each tensor that makes up the weight."""
        raise NotImplementedError

    @staticmethod
    def quantized(weight: Tensor) -> dict[str, Tensor]:
        """A weight (outputs, inputs) -> these tensors."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x (..., inputs) -> (..., outputs) in the same dtype."""
        raise NotImplementedError

    def gated(self, hidden: Tensor) -> Tensor:
        """Of value * SiLU(gate); hidden (..., 2 inputs) holds values and then gates."""
        return self(gated_unit.gated(hidden))


class NVFP4Linear(QuantizedLinear):
    """weight (N, K / 2) uint8, weight_scale flat and swizzled, weight_scale_2 (); see `kernels.nvfp4`."""

    format = "nvfp4"

    @staticmethod
    def layout(inputs: int, outputs: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        return {
            "weight": ((outputs, inputs // 2), torch.uint8),
            "weight_scale": ((nvfp4.swizzled_size(outputs, inputs // nvfp4.BLOCK),), torch.float8_e4m3fn),
            "weight_scale_2": ((), torch.float32),
        }

    @staticmethod
    def quantized(weight: Tensor) -> dict[str, Tensor]:
        return NVFP4Linear.tensors(nvfp4.quantize_weight(weight))

    @staticmethod
    def tensors(quantized: nvfp4.Quantized) -> dict[str, Tensor]:
        names = "weight", "weight_scale", "weight_scale_2"
        return dict(zip(names, quantized, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        return nvfp4.linear(x, self._quantized(), self.bias, self.way)

    def gated(self, hidden: Tensor) -> Tensor:
        return nvfp4.gated_linear(hidden, self._quantized(), self.bias, self.way)

    def _quantized(self) -> nvfp4.Quantized:
        return nvfp4.Quantized(self.weight, self.weight_scale, self.weight_scale_2)


class Fp8Linear(QuantizedLinear):
    """weight (N, K) E4M3, weight_scale (ceil(N / 128), ceil(K / 128)) fp32; see `kernels.fp8`."""

    format = "fp8"

    @staticmethod
    def layout(inputs: int, outputs: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        blocks = -(-outputs // fp8.BLOCK), -(-inputs // fp8.BLOCK)
        return {
            "weight": ((outputs, inputs), torch.float8_e4m3fn),
            "weight_scale": (blocks, torch.float32),
        }

    @staticmethod
    def quantized(weight: Tensor) -> dict[str, Tensor]:
        return dict(zip(("weight", "weight_scale"), fp8.quantize_weight(weight), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        return fp8.linear(x, fp8.Quantized(self.weight, self.weight_scale), self.bias, self.way)


KINDS: dict[str, type[QuantizedLinear]] = {kind.format: kind for kind in (NVFP4Linear, Fp8Linear)}


def in_words(format: str, device: torch.device | str) -> str:
    """What the format means on a device, as a sentence.

    Raises:
        RuntimeError: the device cannot compute it.
    """
    if format == "nvfp4":
        way, why = nvfp4.path(device)
        meanings = {
            "native": "weights and activations in 4 bits",
            "emulated": "4-bit weights and activations, emulated exactly in bf16, which saves memory but no time",
            "weight only": "weights in 4 bits and activations as they are, which saves memory but no time",
        }
        return f"NVFP4: {meanings[way]}, as {why}."
    way, why = fp8.path(device)
    meanings = {
        "native": "weights and activations in 8 bits",
        "weight only": "weights in 8 bits and activations as they are, which saves memory but no time",
    }
    return f"FP8: {meanings[way]}, as {why}."
