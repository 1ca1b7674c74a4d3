# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe: the embedded network and its pixel filter, trained together to correct the projection's holes.

Rectified flow with x0 prediction around the projection's latents. Most clips are trained at sigma 1, where the product
samples in one step. The filter works where pixels are finer than the network's, nothing is changed at the sky line, and
edges count besides colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from ..models.embedded import (
    EmbeddedConfig,
    EmbeddedModel,
    camera_inputs,
    condition_channels,
    null_text,
    path_in_units,
)
from ..models.vae import LinearCodec
from ..weights.embedded import FOLDER
from .checkpoint import TrainingState
from .clip_files import TrainingClip
from .config import RecipeConfig
from .detail_clips import DetailClip, DetailClips
from .evaluate import difference_of, in_holes, score
from .loop import CHECKPOINT, Recipe, lines, noise_levels, run
from .sheet import write_sheet

CODEC = "codec.safetensors"
LATENT_WEIGHT, RAW_WEIGHT, EDGE_WEIGHT = 0.25, 0.5, 2.0
# Mean square error below which a clip's holes count as solved; keeps the logarithm bounded.
SOLVED_MSE = 1e-4
# Of the held-out clips, one in so many for the curve; and how many are on a sheet.
CURVE_EVERY, SHEET_CLIPS = 3, 3


def untrained_model(config: RecipeConfig) -> EmbeddedModel:
    """With weights drawn from the seed, so that its residual is zero, around the run's codec or the one that ships."""
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
    own = Path(config.folder) / CODEC
    model.codec = LinearCodec.load(own if own.exists() else FOLDER / CODEC).requires_grad_(False)
    return model


def trained_model(config: RecipeConfig) -> EmbeddedModel:
    """The averaged model of the last checkpoint. Raises FileNotFoundError if nothing has been trained yet."""
    checkpoint = Path(config.folder) / CHECKPOINT
    if not checkpoint.exists():
        raise FileNotFoundError(f"there is no {checkpoint}; train the network first.")
    state = TrainingState(untrained_model(config), config)
    state.resume(checkpoint)
    return state.averaged_model()


def train(config: RecipeConfig, until_step: int | None = None) -> Iterator[str]:
    """Train to the end, or to `until_step`, from the last checkpoint if there is one; yields progress lines."""
    model, heldout = untrained_model(config), DetailClips(config, "heldout")
    recipe = Recipe(
        lambda step: {"loss": lambda batch, generator: batch_loss(model, batch, config, generator)},
        lambda averaged: gains(averaged, heldout),
        lambda averaged, path: _sheet(averaged, heldout, path),
    )
    clips = DetailClips(config, "train")
    yield from lines(run(TrainingState(model, config), recipe, clips, config, until_step))


def batch_loss(
    model: EmbeddedModel, batch: list[DetailClip], config: RecipeConfig, generator: Generator
) -> Tensor:
    """Log error in the holes before and after the filter, error of edges after it, and latent error."""
    change, latent_error = changed_latents(model, [clip.coarse for clip in batch], config, generator)
    differences = model.codec.decode_difference(change).transpose(1, 2)
    losses = [LATENT_WEIGHT * latent_error]
    for clip, difference in zip(batch, differences, strict=True):
        seen = clip.coarse.projection
        raw = _log_error(difference[1:] - (clip.coarse.truth - seen.base)[1:], 1 - seen.visible[1:])
        seen = clip.fine.projection
        error, holes = (
            model.residual(difference[clip.frames], seen) - (clip.fine.truth - seen.base),
            1 - seen.visible,
        )
        final = _log_error(error, holes) + EDGE_WEIGHT * _edge_error(error, holes)
        losses.append((RAW_WEIGHT * raw + final) / len(batch))
    return torch.stack(losses).sum()


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


@torch.no_grad()
def gains(model: EmbeddedModel, clips: DetailClips) -> dict[str, float]:
    """What filter and network, and the filter alone, gain over the base in the holes of some clips, dB, mean."""
    rows = []
    for index in range(0, len(clips), CURVE_EVERY):
        clip = clips[index]
        difference = difference_of(model, clip.coarse.projection, clip.coarse.path)[clip.frames]
        seen, truth = clip.fine.projection, clip.fine.truth
        made = (
            torch.zeros_like(truth),
            model.residual(difference, seen),
            model.residual(torch.zeros_like(difference), seen),
        )
        base, *gained = (score(in_holes(seen, change), truth, seen.visible).holes for change in made)
        rows.append((base, *(found - base for found in gained)))
    names = ("base_holes", "holes_gain", "filter_alone_gain")
    return dict(zip(names, np.nanmean(rows, axis=0).round(3).tolist(), strict=True))


@torch.no_grad()
def _sheet(model: EmbeddedModel, clips: DetailClips, path: Path) -> None:
    """Rows of clips: what the first frame shows, filled, with the network, truth; two frames of each."""
    rows = []
    for index in np.linspace(0, len(clips) - 1, min(SHEET_CLIPS, len(clips))).round().astype(int):
        clip = clips[int(index)]
        difference = difference_of(model, clip.coarse.projection, clip.coarse.path)[clip.frames]
        seen = clip.fine.projection
        made = in_holes(seen, model.residual(difference, seen))
        for picture in zip(seen.base * seen.visible, seen.base, made, clip.fine.truth, strict=True):
            rows.append(torch.stack(picture))
    write_sheet(path, rows)


def _log_error(error: Tensor, holes: Tensor) -> Tensor:
    """Logarithm of the mean square of (N, 3, H, W) in one clip's holes (N, 1, H, W)."""
    squares = (error.square() * holes).sum()
    # A clip with hardly any hole must not shout.
    return torch.log(squares / (3 * holes.sum() + 0.01 * error.numel()) + SOLVED_MSE)


def _edge_error(error: Tensor, holes: Tensor) -> Tensor:
    """Mean absolute step of the error between neighbours in one clip's holes: blotches cost, flat shifts do not."""
    across = (error[..., :, 1:] - error[..., :, :-1]).abs() * holes[..., :, 1:]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * holes[..., 1:, :]
    return (across.sum() + down.sum()) / (6 * holes.sum() + 0.01 * error.numel())
