# SPDX-License-Identifier: GPL-3.0-or-later
"""Random low-rank adapters for a small refiner, in the spellings that exist."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

RANK = 4
SPELLINGS = {
    "training": "{module}.lora_{side}",
    "lightricks": "diffusion_model.{module}.lora_{side}.weight",
    "diffusers": "transformer.{module}.lora_{side}.weight",
    "plain": "{module}.lora_{side}.weight",
}


def factors(
    shapes: Mapping[str, tuple[int, int]], seed: int = 9, rank: int = RANK
) -> dict[str, tuple[Tensor, Tensor]]:
    """Module -> A (rank, in) and B (out, rank), for linears of these shapes (out, in)."""
    generator = torch.Generator().manual_seed(seed)
    return {
        module: (
            torch.randn(rank, inputs, generator=generator) / inputs**0.5,
            torch.randn(outputs, rank, generator=generator) / rank**0.5,
        )
        for module, (outputs, inputs) in shapes.items()
    }


def write_adapter(
    path: Path, pairs: Mapping[str, tuple[Tensor, Tensor]], spelling: str = "training", **further: Tensor
) -> Path:
    pattern = SPELLINGS[spelling]
    tensors = {
        pattern.format(module=module, side=side): factor
        for module, pair in pairs.items()
        for side, factor in zip("AB", pair, strict=True)
    }
    path.parent.mkdir(exist_ok=True)
    save_file({**tensors, **further}, path)
    return path
