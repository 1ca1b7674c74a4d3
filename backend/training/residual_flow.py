# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe: the embedded network and its pixel filter, trained together to correct the projection's holes.

Rectified flow with x0 prediction around the projection's latents. Most clips are trained at sigma 1, where
the product samples in one step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Generator, Tensor

from ..models.embedded import (
    EmbeddedConfig,
    EmbeddedModel,
    RasterClip,
    camera_inputs,
    condition_channels,
    null_text,
    path_in_units,
)
from ..models.vae import LinearCodec
from .augment import AugmentedClips
from .checkpoint import TrainingState
from .clip_files import ClipSet, TrainingClip
from .config import RecipeConfig
from .evaluate import curve_figures
from .loop import Recipe, lines, noise_levels, run

LATENT_WEIGHT = 0.25
# Mean square error below which a clip's holes count as solved; keeps the logarithm bounded.
SOLVED_MSE = 1e-4


def new_model(config: RecipeConfig, codec: LinearCodec) -> EmbeddedModel:
    """Untrained, with weights drawn from the seed; its residual is zero."""
    torch.manual_seed(config.seed)
    model = EmbeddedModel(
        EmbeddedConfig(
            raster=config.heldout_raster,
            hidden_size=config.hidden_size,
            blocks=config.blocks,
            mlp_ratio=config.mlp_ratio,
            filter_width=config.filter_width,
        )
    )
    model.codec = codec.requires_grad_(False)
    return model


def trained_model(config: RecipeConfig) -> EmbeddedModel:
    """The averaged model of the last checkpoint.

    Raises:
        FileNotFoundError: nothing has been trained yet.
    """
    folder = Path(config.folder)
    state = TrainingState(new_model(config, LinearCodec.load(folder / "codec.safetensors")), config)
    checkpoint = folder / "checkpoint.safetensors"
    if not checkpoint.exists():
        raise FileNotFoundError(f"there is no {checkpoint}; train the network first.")
    state.resume(checkpoint)
    return state.averaged_model()


def train(config: RecipeConfig, until_step: int | None = None) -> Iterator[str]:
    """Train to the end, or to `until_step`, from the last checkpoint if there is one; yields progress lines."""
    model = new_model(config, LinearCodec.load(Path(config.folder) / "codec.safetensors"))
    heldout = ClipSet(config, "heldout")
    recipe = Recipe(
        lambda step: {"loss": lambda batch, generator: batch_loss(model, batch, config, generator)},
        lambda averaged: curve_figures(averaged, heldout),
    )
    yield from lines(run(TrainingState(model, config), recipe, AugmentedClips(config), config, until_step))


def batch_loss(
    model: EmbeddedModel, batch: list[TrainingClip], config: RecipeConfig, generator: Generator
) -> Tensor:
    """Log error in the holes' pixels before and after the filter, and latent error."""
    change, latent_error = changed_latents(model, batch, config, generator)
    difference = model.codec.decode_difference(change).transpose(1, 2)
    truth = torch.stack([clip.truth for clip in batch])
    wanted = truth - torch.stack([clip.projection.base for clip in batch])
    holes = 1 - torch.stack([clip.projection.visible for clip in batch])
    raw = _hole_error(difference[:, 1:], wanted[:, 1:], holes[:, 1:])
    frames = 1 + torch.randperm(truth.shape[1] - 1, generator=generator)[: config.filter_frames]
    filtered = _filtered(model, batch, difference, frames)
    final = _hole_error(filtered, wanted[:, frames], holes[:, frames])
    return 0.5 * raw + final + LATENT_WEIGHT * latent_error


def changed_latents(
    model: EmbeddedModel, batch: list[TrainingClip], config: RecipeConfig, generator: Generator
) -> tuple[Tensor, Tensor]:
    """What the network changes in the base latents (B, 128, T, h/8, w/8) of clips under noise, and the mean square
    error that it leaves behind the given frame."""
    with torch.no_grad():
        base, channels, camera, plucker = stacked(model.codec, batch)
        truth = torch.stack([clip.truth for clip in batch])
        clean = model.codec.encode(truth.transpose(1, 2))
        sigma = noise_levels(len(batch), config.one_step_share, generator)[:, None, None, None, None]
        noise = torch.randn(clean.shape, generator=generator)
        noisy = (1 - sigma) * clean + sigma * noise
        noisy[:, :, :1] = base[:, :, :1]
        timesteps = (1000 * sigma[:, :, 0, 0]).expand(-1, -1, clean.shape[2]).clone()
        timesteps[..., 0] = 0
    inputs = torch.cat([noisy, channels], dim=1)
    change = model.stage1(inputs, timesteps, *null_text(len(batch), clean.device), camera, plucker)
    return change, (base + change - clean)[:, :, 1:].square().mean()


def stacked(codec: LinearCodec, batch: list[TrainingClip]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Base latents, condition channels, camera tokens and Plücker chunks of a batch."""
    rows = []
    for clip in batch:
        base = codec.encode(clip.projection.base.transpose(0, 1)[None])
        channels = condition_channels(codec, base, clip.projection)
        rows.append((base[0], channels[0], *camera_inputs(path_in_units(clip.path, clip.projection))))
    base, channels, camera, plucker = (torch.stack(column) for column in zip(*rows, strict=True))
    return base, channels, camera, plucker


def _filtered(model: EmbeddedModel, batch: list[TrainingClip], difference: Tensor, frames: Tensor) -> Tensor:
    """(B, len(frames), 3, h, w) after the pixel filter."""

    def picked(clip: RasterClip) -> tuple[Tensor, ...]:
        return tuple(images[frames] for images in (clip.base, clip.guide, clip.visible, clip.nearness))

    seen = (torch.cat(images) for images in zip(*(picked(clip.projection) for clip in batch), strict=True))
    flat = model.filter(difference[:, frames].flatten(0, 1), *seen)
    return flat.unflatten(0, (len(batch), len(frames)))


def _hole_error(change: Tensor, wanted: Tensor, holes: Tensor) -> Tensor:
    """Mean over clips of the logarithm of the mean square error in the holes."""
    weight = holes.expand_as(wanted)
    squares = ((change - wanted).square() * weight).sum((1, 2, 3, 4))
    # A clip with hardly any hole must not shout.
    return torch.log(squares / (weight.sum((1, 2, 3, 4)) + 0.01 * wanted[0].numel()) + SOLVED_MSE).mean()
