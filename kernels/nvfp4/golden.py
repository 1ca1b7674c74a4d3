# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a device compute NVFP4 as it is defined? A vector with known bytes, and a product with a known result."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import vectorized
from .vectorized import Quantized

# Two rows, with ties, a scale that is rounded down, and a maximum that is clamped for that reason.
PACKED = bytes.fromhex("ffefeededdccab991022435465667677")
SCALES = ((0x7E, 0x7D), (0x76, 0x75))
TENSOR_SCALE = 2 / 2688


def matrix() -> Tensor:
    """(2, 32) fp32, quantised to PACKED in both rows."""
    steps = torch.arange(32.0)
    return torch.stack([steps / 8 - 2, (steps - 16) / 16])


def why_wrong(
    device: torch.device,
    quantize: Callable[[Tensor], Quantized],
    matmul: Callable[[Quantized, Quantized], Tensor],
) -> str:
    """What is wrong with them on this device, as the end of a sentence; "" if nothing is.

    Args:
        matmul: (M, K), (N, K) -> (M, N) fp32.
    """
    try:
        golden = quantize(matrix().to(device))
        if any(row.cpu().numpy().tobytes() != PACKED for row in golden.packed):
            return "wrong numbers when quantising"
        scales = vectorized.linear_scales(golden).view(torch.uint8).tolist()
        if tuple(map(tuple, scales)) != SCALES or golden.tensor_scale.item() != torch.tensor(TENSOR_SCALE):
            return "wrong scales when quantising"
        # Over several tiles in every direction, with scales that differ from block to block.
        places = torch.arange(160 * 320.0).view(160, 320)
        a, b = (torch.sin(places * pace) * torch.exp2((places // 16) % 7) for pace in (0.37, 0.53))
        a, b = (vectorized.quantize(x) for x in (a, b[:144]))
        expected = vectorized.matmul(a, b)
        got = matmul(*(Quantized(*(part.to(device) for part in x)) for x in (a, b))).cpu().float()
    except Exception as error:  # a driver, a compiler or a kernel may fail in any way
        return f"an error ({' '.join(str(error).split())[:200]})"
    error = ((got - expected).norm() / expected.norm()).item()
    return "" if error < 1e-3 else f"products that are off by {error:.0%}"
