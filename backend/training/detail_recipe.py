# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe of a long run: the network with a pixel filter at twice its raster. python -m backend.training.detail_recipe

The residual flow of `residual_flow`, with three changes: the filter works where pixels are finer than the network's,
nothing is changed at the sky line, and edges count besides colours. Clips come with clay viewports in a third of the
scenes and with graded and painted first frames. `data` makes the clips, `train` goes on from the last checkpoint,
`figures` writes what the averaged model gains on held-out clips.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from ..models.embedded import EmbeddedModel, RasterClip
from ..models.embedded.composite import away_from_sky_line
from ..models.vae import LinearCodec
from ..weights.embedded import FOLDER
from .checkpoint import TrainingState
from .config import RecipeConfig
from .detail_clips import DETAIL, DetailClip, DetailClips, make_missing
from .evaluate import in_holes, residual_of, score
from .loop import CHECKPOINT, Recipe, lines, run
from .residual_flow import LATENT_WEIGHT, SOLVED_MSE, changed_latents, new_model

RAW_WEIGHT, EDGE_WEIGHT = 0.5, 2.0
# Of the held-out clips, one in so many for the curve.
CURVE_EVERY = 3


def train(config: RecipeConfig, until_step: int | None = None) -> Iterator[str]:
    """From the last checkpoint to the end, or to `until_step`; yields progress lines."""
    model, heldout = untrained_model(config), DetailClips(config, "heldout")
    recipe = Recipe(
        lambda step: {"loss": lambda batch, generator: batch_loss(model, batch, config, generator)},
        lambda averaged: _means(gains(averaged, heldout, CURVE_EVERY)),
    )
    clips = DetailClips(config, "train")
    yield from lines(run(TrainingState(model, config), recipe, clips, config, until_step))


def untrained_model(config: RecipeConfig) -> EmbeddedModel:
    """Around the codec that ships, with weights drawn from the seed; its residual is zero."""
    return new_model(config, LinearCodec.load(FOLDER / "codec.safetensors"))


def trained_model(config: RecipeConfig) -> EmbeddedModel:
    """The averaged model of the last checkpoint. Raises FileNotFoundError if nothing has been trained yet."""
    checkpoint = Path(config.folder) / CHECKPOINT
    if not checkpoint.exists():
        raise FileNotFoundError(f"there is no {checkpoint}; train first.")
    state = TrainingState(untrained_model(config), config)
    state.resume(checkpoint)
    return state.averaged_model()


def batch_loss(
    model: EmbeddedModel, batch: list[DetailClip], config: RecipeConfig, generator: Generator
) -> Tensor:
    """Log error in the holes before and after the filter, error of edges after it, and latent error."""
    change, latent_error = changed_latents(model, [clip.coarse for clip in batch], config, generator)
    difference = model.codec.decode_difference(change).transpose(1, 2)
    losses = [LATENT_WEIGHT * latent_error]
    for clip, decoded in zip(batch, difference, strict=True):
        seen, wanted = clip.coarse.projection, clip.coarse.truth - clip.coarse.projection.base
        raw = _log_error(decoded[1:], wanted[1:], 1 - seen.visible[1:])
        seen = clip.fine.projection
        filtered, wanted = detailed(model, seen, decoded[clip.frames]), clip.fine.truth - seen.base
        holes = 1 - seen.visible
        final = _log_error(filtered, wanted, holes) + EDGE_WEIGHT * _edge_error(filtered, wanted, holes)
        losses.append((RAW_WEIGHT * raw + final) / len(batch))
    return torch.stack(losses).sum()


def detailed(model: EmbeddedModel, seen: RasterClip, decoded: Tensor) -> Tensor:
    """The decoded residual (N, 3, h, w), carried to DETAIL times its size and filtered there: (N, 3, H, W).

    Args:
        seen: of the same frames, at that size.
    """
    filtered = model.filter(enlarged(decoded), seen.base, seen.guide, seen.visible, seen.nearness)
    return filtered * away_from_sky_line(seen.sky)


def enlarged(images: Tensor) -> Tensor:
    """(N, C, h, w) at DETAIL times the size."""
    return functional.interpolate(images, scale_factor=DETAIL, mode="bilinear", align_corners=False)


@torch.no_grad()
def gains(model: EmbeddedModel, clips: DetailClips, every: int = 1) -> list[dict[str, float | str]]:
    """What network and filter gain in the holes, in dB, at DETAIL times the raster.

    Args:
        every: of the clips, only one in so many.
    """
    rows = []
    for index in range(0, len(clips), every):
        clip = clips[index]
        _, decoded = residual_of(model, clip.coarse.projection, clip.coarse.path)
        decoded, seen = decoded[clip.frames], clip.fine.projection
        made = {
            "base": torch.zeros_like(enlarged(decoded)),
            "network": enlarged(decoded) * away_from_sky_line(seen.sky),
            "filter": detailed(model, seen, decoded),
            "filter_alone": detailed(model, seen, torch.zeros_like(decoded)),
        }
        # `score` leaves out a clip's first frame, which is not among these.
        holes = {
            name: score(*_with_a_first(in_holes(seen, change), clip.fine.truth, seen.visible)).holes
            for name, change in made.items()
        }
        gained = {f"{name}_gain": holes[name] - holes["base"] for name in made if name != "base"}
        rows.append({"move": clip.coarse.move, "base_holes": holes["base"], **gained})
    return rows


def _with_a_first(*images: Tensor) -> list[Tensor]:
    return [torch.cat([image[:1], image]) for image in images]


def _log_error(change: Tensor, wanted: Tensor, holes: Tensor) -> Tensor:
    """Logarithm of the mean square error in one clip's holes."""
    squares = ((change - wanted).square() * holes).sum()
    # A clip with hardly any hole must not shout.
    return torch.log(squares / (3 * holes.sum() + 0.01 * wanted.numel()) + SOLVED_MSE)


def _edge_error(change: Tensor, wanted: Tensor, holes: Tensor) -> Tensor:
    """Mean absolute error of the steps between neighbours in one clip's holes: blotches cost, flat shifts do not."""
    error = change - wanted
    across = (error[..., :, 1:] - error[..., :, :-1]).abs() * holes[..., :, 1:]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * holes[..., 1:, :]
    return (across.sum() + down.sum()) / (6 * holes.sum() + 0.01 * wanted.numel())


def _means(rows: list[dict[str, float | str]]) -> dict[str, float]:
    names = [name for name in rows[0] if name != "move"]
    return {name: round(float(np.nanmean([row[name] for row in rows])), 3) for name in names}


def _figures(config: RecipeConfig) -> Iterator[str]:
    rows = gains(trained_model(config), DetailClips(config, "heldout"))
    moves = dict.fromkeys(row["move"] for row in rows)
    by_move = {move: _means([row for row in rows if row["move"] == move]) for move in moves}
    figures = {"clips": len(rows), "all": _means(rows), "moves": by_move}
    (Path(config.folder) / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    yield json.dumps(figures, indent=2)


def main(argv: list[str]) -> int:
    """Run one step; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m backend.training.detail_recipe", description=__doc__)
    steps = {"data": make_missing, "train": train, "figures": _figures}
    parser.add_argument("step", choices=steps)
    parser.add_argument("--config", type=Path, required=True)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        for line in steps[arguments.step](RecipeConfig.load(arguments.config)):
            print(time.strftime("%H:%M:%S"), line, flush=True)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"The training step {arguments.step} cannot run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
