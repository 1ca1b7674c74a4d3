# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of the released kind with random weights, made on their device: times and memory need no released weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from ..models.checkpoint import fill
from ..models.refiner import RefinerConfig, RefinerTransformer
from ..models.stage1 import Stage1Config, Stage1Transformer
from ..models.stage1.loading import FP32_NAMES
from ..protocol.preset import QUANTIZED
from ..quantization.loading import quantize_linears, stored_dtypes
from ..quantization.recipe import REFINER, STAGE1, Recipe
from .counts import FRAMES


@dataclass(frozen=True)
class Models:
    """What is measured.

    Attributes:
        stage1, refiner: with as many blocks as fit quickly; every fourth of stage 1 is softmax, as in the whole one.
        stage1_blocks, refiner_blocks: of the whole models.
        decoder: arguments of diffusers' AutoencoderKLLTX2Video.
        cells: rows and columns of a latent frame.
        frames: latent frames of the clip.
        window: of the refiner.
        texts: tokens of the prompt for stage 1 and for the refiner.
        is_release: whether seconds can be compared with those of the released models.
    """

    stage1: Stage1Config
    refiner: RefinerConfig
    stage1_blocks: int = 20
    refiner_blocks: int = 48
    decoder: dict = field(default_factory=dict)
    cells: tuple[int, int] = (22, 40)
    frames: int = FRAMES
    window: int = 11
    texts: tuple[int, int] = (300, 1024)
    is_release: bool = True

    def whole(self) -> Models:
        """With all blocks."""
        return replace(
            self,
            stage1=replace(self.stage1, num_layers=self.stage1_blocks),
            refiner=replace(self.refiner, num_layers=self.refiner_blocks),
        )


RELEASE = Models(replace(Stage1Config(), num_layers=4), replace(RefinerConfig(), num_layers=2))
_CHANNELS = 16
MINIATURE = Models(
    Stage1Config(
        in_channels=_CHANNELS,
        out_channels=_CHANNELS,
        num_layers=4,
        hidden_size=96,
        head_dim=48,
        num_cross_heads=2,
        caption_channels=32,
    ),
    RefinerConfig(in_channels=_CHANNELS, num_layers=2, num_heads=2, head_dim=32, caption_channels=32),
    stage1_blocks=8,
    refiner_blocks=4,
    decoder={
        "latent_channels": _CHANNELS,
        "block_out_channels": (8, 16, 32, 32),
        "layers_per_block": (1, 1, 1, 1, 1),
        "decoder_block_out_channels": (8, 16, 32),
        "decoder_layers_per_block": (1, 1, 1, 1),
    },
    cells=(3, 5),
    frames=13,
    texts=(12, 24),
    is_release=False,
)


def stage1(config: Stage1Config, precision: str, device: torch.device) -> Stage1Transformer:
    return _random(lambda: Stage1Transformer(config), STAGE1, precision, device, FP32_NAMES)


def refiner(config: RefinerConfig, precision: str, device: torch.device) -> RefinerTransformer:
    return _random(lambda: RefinerTransformer(config), REFINER, precision, device)


def causal_autoencoder(settings: dict, precision: str, device: torch.device) -> nn.Module:
    """The video autoencoder with its causal decoder alone."""
    from diffusers import AutoencoderKLLTX2Video

    with torch.device("meta"):
        vae = AutoencoderKLLTX2Video(
            **settings, decoder_causal=True, spatial_compression_ratio=32, temporal_compression_ratio=8
        )
    vae.encoder = None
    entries = {
        name: (tuple(tensor.shape), partial(_numbers, name, tensor.shape, device))
        for name, tensor in vae.state_dict().items()
    }
    return fill(vae, entries, device, lambda name: _dtype(precision))


def _random(
    make: Callable[[], nn.Module],
    recipe: Recipe,
    precision: str,
    device: torch.device,
    in_fp32: tuple[str, ...] = (),
) -> nn.Module:
    with torch.device("meta"):
        model = make()
    entries = {
        name: (tuple(tensor.shape), partial(_numbers, name, tensor.shape, device))
        for name, tensor in model.state_dict().items()
    }
    if precision in QUANTIZED:
        entries = quantize_linears(model, entries, recipe, precision, device)
    packed, dtype = stored_dtypes(model), _dtype(precision)

    def dtype_of(name: str) -> torch.dtype:
        return packed.get(name) or (torch.float32 if in_fp32 and name.endswith(in_fp32) else dtype)

    return fill(model, entries, device, dtype_of)


def _dtype(precision: str) -> torch.dtype:
    """Of what is not quantised."""
    return torch.float32 if precision == "fp32" else torch.bfloat16


def _numbers(name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Scaled by their fan-in, so that nothing overflows on the way through the blocks."""
    if len(shape) < 2:
        return (
            torch.ones(shape, device=device)
            if "norm" in name or "std" in name
            else torch.zeros(shape, device=device)
        )
    return torch.randn(shape, device=device) / math.sqrt(math.prod(shape[1:]))
