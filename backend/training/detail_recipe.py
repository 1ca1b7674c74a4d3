# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe of a long run: the network with a pixel filter at twice its raster. python -m backend.training.detail_recipe

The residual flow of `residual_flow`, with three changes: the filter works where pixels are finer than the network's,
nothing is learned or changed at the sky line, and edges count besides colours. Clips come with clay viewports in a
third of the scenes and with graded and painted first frames. `data` makes the clips of the first stages, `train` goes
on from the last checkpoint as far as there is data, `figures` writes what the averaged model gains on held-out clips.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from ..models.embedded import (
    EmbeddedConfig,
    EmbeddedModel,
    RasterClip,
    camera_inputs,
    condition_channels,
    null_text,
)
from ..models.embedded import path_in_units as in_units
from ..models.embedded.composite import away_from_sky_line
from ..models.vae import LinearCodec
from ..weights.embedded import FOLDER
from .checkpoint import TrainingState
from .detail_clips import DetailClip, load_clip, load_clips, make_missing, scene_paths
from .detail_config import DETAIL, DetailConfig
from .evaluate import in_holes, residual_of, score

LATENT_WEIGHT, EDGE_WEIGHT = 0.25, 2.0
MIRROR_SHARE = 0.5
WARM_UP_STEPS = 100
NOISE_SHIFT = 3.0
# Mean square error below which a clip's holes count as solved; keeps the logarithm bounded.
SOLVED_MSE = 1e-4


def new_model(config: DetailConfig) -> EmbeddedModel:
    """Untrained around the codec that ships, with weights drawn from the seed; its residual is zero."""
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
    model.codec = LinearCodec.load(FOLDER / "codec.safetensors").requires_grad_(False)
    return model


def train(config: DetailConfig, until_step: int | None = None) -> Iterator[str]:
    """From the last checkpoint to the end, to `until_step`, or as far as there is data; yields progress lines.

    Everything random in a step follows from the seed and the step, so a run that was stopped goes on exactly as if it
    had not been.
    """
    folder = Path(config.folder)
    model = new_model(config)
    state = TrainingState(model, config)
    state.resume(folder / "checkpoint.safetensors")
    last = min(config.steps if until_step is None else until_step, _reach(config))
    started_s, saved_s = time.process_time() - state.cpu_s, time.monotonic()
    while state.step < last:
        step = state.step
        loss = _step(state, model, config)
        state.step, state.cpu_s = step + 1, time.process_time() - started_s
        evaluates = state.step % config.evaluate_every == 0 or state.step == last
        if evaluates or time.monotonic() - saved_s > config.save_every_s:
            state.save(folder / "checkpoint.safetensors")
            saved_s = time.monotonic()
        if state.step % 10 == 0:
            yield f"step {state.step} of {config.steps}, loss {loss:.3f}, {state.cpu_s:.0f} CPU seconds"
        if evaluates:
            row = _means(gains(state.averaged_model(), config, every=3))
            _append(folder / "curve.csv", {"step": state.step, "cpu_s": round(state.cpu_s), **row})
            yield f"held-out: {row}"


def trained_model(config: DetailConfig) -> EmbeddedModel:
    """The averaged model of the last checkpoint. Raises FileNotFoundError if nothing has been trained yet."""
    checkpoint = Path(config.folder) / "checkpoint.safetensors"
    if not checkpoint.exists():
        raise FileNotFoundError(f"there is no {checkpoint}; train first.")
    state = TrainingState(new_model(config), config)
    state.resume(checkpoint)
    return state.averaged_model()


def batch_loss(
    model: EmbeddedModel, batch: list[DetailClip], config: DetailConfig, generator: Generator
) -> Tensor:
    """Log error in the holes before and after the filter, error of edges after it, and latent error."""
    with torch.no_grad():
        rows = []
        for clip in batch:
            base = model.codec.encode(clip.seen.base.transpose(0, 1)[None])
            channels = condition_channels(model.codec, base, clip.seen)
            rows.append((base[0], channels[0], *camera_inputs(in_units(clip.path, clip.seen))))
        base, channels, camera, plucker = (torch.stack(column) for column in zip(*rows, strict=True))
        truth = torch.stack([clip.truth for clip in batch])
        clean = model.codec.encode(truth.transpose(1, 2))
        sigma = _noise_levels(len(batch), config.one_step_share, generator)[:, None, None, None, None]
        noise = torch.randn(clean.shape, generator=generator)
        noisy = (1 - sigma) * clean + sigma * noise
        noisy[:, :, :1] = base[:, :, :1]
        timesteps = (1000 * sigma[:, :, 0, 0]).expand(-1, -1, clean.shape[2]).clone()
        timesteps[..., 0] = 0
    inputs = torch.cat([noisy, channels], dim=1)
    change = model.stage1(inputs, timesteps, *null_text(len(batch), clean.device), camera, plucker)
    latent_error = (base + change - clean)[:, :, 1:].square().mean()
    difference = model.codec.decode_difference(change).transpose(1, 2)
    losses = [LATENT_WEIGHT * latent_error]
    for clip, decoded in zip(batch, difference, strict=True):
        raw = decoded * away_from_sky_line(clip.seen.sky)
        wanted = clip.truth - clip.seen.base
        losses.append(0.5 / len(batch) * _log_error(raw[1:], wanted[1:], 1 - clip.seen.visible[1:]))
        filtered = detailed(model, clip.seen_detail, decoded[clip.frames])
        wanted, holes = clip.truth_detail - clip.seen_detail.base, 1 - clip.seen_detail.visible
        losses.append(_log_error(filtered, wanted, holes) / len(batch))
        losses.append(EDGE_WEIGHT / len(batch) * _edge_error(filtered, wanted, holes))
    return torch.stack([loss.reshape(()) for loss in losses]).sum()


def detailed(model: EmbeddedModel, seen: RasterClip, decoded: Tensor) -> Tensor:
    """The decoded residual (N, 3, h, w), carried to DETAIL times its size and filtered there: (N, 3, H, W).

    Args:
        seen: of the same frames, at that size.
    """
    finer = functional.interpolate(decoded, scale_factor=DETAIL, mode="bilinear", align_corners=False)
    filtered = model.filter(finer, seen.base, seen.guide, seen.visible, seen.nearness)
    return filtered * away_from_sky_line(seen.sky)


@torch.no_grad()
def gains(model: EmbeddedModel, config: DetailConfig, every: int = 1) -> list[dict[str, float | str]]:
    """What network and filter gain in the holes of held-out clips, in dB, at DETAIL times the raster.

    Args:
        every: of the clips, only one in so many.
    """
    rows = []
    clips = (clip for path in scene_paths(config, "heldout", 0) for clip in load_clips(path))
    for index, clip in enumerate(clips):
        if index % every:
            continue
        _, decoded = residual_of(model, clip.seen, clip.path)
        decoded, seen = decoded[clip.frames], clip.seen_detail
        plain = functional.interpolate(decoded, scale_factor=DETAIL, mode="bilinear", align_corners=False)
        made = {
            "base": torch.zeros_like(plain),
            "network": plain * away_from_sky_line(seen.sky),
            "filter": detailed(model, seen, decoded),
            "filter_alone": detailed(model, seen, torch.zeros_like(decoded)),
        }
        # `score` leaves out a clip's first frame, which is not among these.
        holes = {
            name: score(*_with_a_first(in_holes(seen, change), clip.truth_detail, seen.visible)).holes
            for name, change in made.items()
        }
        gained = {f"{name}_gain": holes[name] - holes["base"] for name in made if name != "base"}
        rows.append({"move": clip.move, "base_holes": holes["base"], **gained})
    return rows


def _with_a_first(*images: Tensor) -> list[Tensor]:
    return [torch.cat([image[:1], image]) for image in images]


def _step(state: TrainingState, model: EmbeddedModel, config: DetailConfig) -> float:
    generator = Generator().manual_seed(config.seed * 1_000_003 + state.step)
    batch = _batch(state.step, config, generator)
    loss = batch_loss(model, batch, config, generator)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.parameters, config.clip_norm)
    progress = state.step / config.steps
    fall = 1.0 if progress < 0.5 else 0.5 + 0.5 * math.cos(math.pi * (2 * progress - 1))
    state.apply(config.learning_rate * fall * min(1.0, (state.step + 1) / WARM_UP_STEPS))
    return float(loss.detach())


def _batch(step: int, config: DetailConfig, generator: Generator) -> list[DetailClip]:
    """Clips of one step. A stage goes through all clips made so far, again and again, in an order of its own."""
    stage, within = divmod(step, config.steps_per_stage)
    paths = scene_paths(config, "train", stage + 1)
    count = len(paths) * config.moves_per_scene
    clips = []
    for position in range(within * config.batch_clips, (within + 1) * config.batch_clips):
        epoch, place = divmod(position, count)
        order = np.random.default_rng((config.seed, stage, epoch)).permutation(count)
        scene, row = divmod(int(order[place]), config.moves_per_scene)
        clip = load_clip(paths[scene], row)
        clips.append(_mirrored(clip) if torch.rand((), generator=generator) < MIRROR_SHARE else clip)
    return clips


def _reach(config: DetailConfig) -> int:
    """Steps for which the data is there."""
    stages = 0
    while stages < config.stages and all(path.exists() for path in scene_paths(config, "train", stages + 1)):
        stages += 1
    if not stages:
        raise FileNotFoundError("the first stage's scenes are not complete; make the data first.")
    return stages * config.steps_per_stage


def _mirrored(clip: DetailClip) -> DetailClip:
    """Left and right exchanged, in the pictures and in the camera's path."""
    from .augment import mirrored
    from .clip_files import TrainingClip

    coarse = mirrored(TrainingClip(clip.seen, clip.truth, clip.path, clip.move))
    fine = mirrored(TrainingClip(clip.seen_detail, clip.truth_detail, clip.path, clip.move))
    return DetailClip(
        coarse.projection, coarse.truth, clip.frames, fine.projection, fine.truth, coarse.path, clip.move
    )


def _noise_levels(count: int, one_step_share: float, generator: Generator) -> Tensor:
    """(count,) sigmas: 1 in the given share, else shifted logit-normal."""
    drawn = torch.sigmoid(torch.randn(count, generator=generator))
    shifted = NOISE_SHIFT * drawn / (1 + (NOISE_SHIFT - 1) * drawn)
    return torch.where(torch.rand(count, generator=generator) < one_step_share, torch.ones(count), shifted)


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


def _append(path: Path, row: dict[str, float]) -> None:
    fresh = not path.exists()
    with open(path, "a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def main(argv: list[str]) -> int:
    """Run one step; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m backend.training.detail_recipe", description=__doc__)
    parser.add_argument("step", choices=("data", "train", "figures"))
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--stages", type=int, help="of data: make no more than these (default: all)")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        config = DetailConfig.load(arguments.config)
        if arguments.step == "figures":
            rows = gains(trained_model(config), config)
            moves = {
                move: _means([r for r in rows if r["move"] == move]) for move in {r["move"] for r in rows}
            }
            figures = {"clips": len(rows), "all": _means(rows), "moves": moves}
            (Path(config.folder) / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
            lines = iter([json.dumps(figures, indent=2)])
        elif arguments.step == "data":
            lines = make_missing(config, arguments.stages or config.stages)
        else:
            lines = train(config)
        for line in lines:
            print(time.strftime("%H:%M:%S"), line, flush=True)
    except (OSError, ValueError) as error:
        print(f"The training step {arguments.step} cannot run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
