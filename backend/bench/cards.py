# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device can do at most: from the data sheet of a known card, measured on every other device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .clock import Clock

BYTES = {"fp32": 4.0, "bf16": 2.0, "fp8": 1.0, "nvfp4": 0.5625}  # of a weight; NVFP4 has a scale for every 16


@dataclass(frozen=True)
class Card:
    """
    Attributes:
        tflop_s: dense rates with sums in fp32, by number format, in 1e12 FLOP a second.
        gb_s: memory bandwidth, 1e9 bytes a second.
        source: where these come from.
        multiprocessors: of the whole card; 0 where it does not matter.
    """

    name: str
    tflop_s: dict[str, float]
    gb_s: float
    source: str
    multiprocessors: int = 0

    def rate(self, format: str) -> float:
        """FLOP a second for products of a format; where the device has none for it, of what it is unpacked to."""
        known = [self.tflop_s[name] for name in (format, "bf16", "fp32") if name in self.tflop_s]
        return 1e12 * known[0]

    def bound_s(self, flop: float, moved: float, format: str) -> float:
        """The least time for so much arithmetic and so many bytes, if one hides behind the other."""
        return max(flop / self.rate(format), moved / (1e9 * self.gb_s))


_HOPPER = {"bf16": 989.4, "fp8": 1978.9}
# By the name that torch gives; variants with other clocks or memory (laptop, PCIe, NVL, D) have other names.
KNOWN = {
    "NVIDIA GeForce RTX 5090": Card(
        "RTX 5090",
        {"bf16": 209.5, "fp8": 419.0, "nvfp4": 1676.0},
        1792.0,
        "NVIDIA RTX Blackwell GPU architecture whitepaper, appendix A",
        170,
    ),
    "NVIDIA GeForce RTX 4090": Card(
        "RTX 4090",
        {"bf16": 165.2, "fp8": 330.3},
        1008.0,
        "NVIDIA Ada GPU architecture whitepaper, appendix A",
        128,
    ),
    "NVIDIA H100 80GB HBM3": Card("H100 SXM", _HOPPER, 3350.0, "NVIDIA H100 data sheet", 132),
    "NVIDIA H200": Card("H200 SXM", _HOPPER, 4800.0, "NVIDIA H200 data sheet", 132),
}
RTX_5090, H100 = KNOWN["NVIDIA GeForce RTX 5090"], KNOWN["NVIDIA H100 80GB HBM3"]


def card_of(device: torch.device, clock: Clock) -> Card:
    """The data sheet of a known card, or what a copy and a matrix product reach on this device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return KNOWN.get(name) or _measured(name, device, clock)


def _measured(name: str, device: torch.device, clock: Clock) -> Card:
    is_gpu = device.type == "cuda"
    format, dtype, side = ("bf16", torch.bfloat16, 8192) if is_gpu else ("fp32", torch.float32, 1024)
    a, b = torch.randn(2, side, side, device=device, dtype=dtype).unbind(0)
    source = torch.ones((1 << 30 if is_gpu else 1 << 26) // 4, device=device)
    target = torch.empty_like(source)
    product_s, copy_s = clock.seconds(lambda: a @ b), clock.seconds(lambda: target.copy_(source))
    rate = 2 * side**3 / product_s / 1e12
    moved_gb = 2 * source.nbytes / 1e9
    return Card(
        name, {format: rate}, moved_gb / copy_s, f"measured: a {side}-wide {format} product and a copy"
    )
