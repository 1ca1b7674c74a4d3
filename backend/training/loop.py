# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop that the recipes share.

Everything random in a step follows from (seed, step), so a run that was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from .augment import augmented
from .checkpoint import TrainingState
from .clip_files import ClipSet, TrainingClip
from .config import RecipeConfig

WARM_UP_STEPS = 40
NOISE_SHIFT = 3.0


def run(
    state: TrainingState,
    batch_loss: Callable[[list[TrainingClip], Generator], Tensor],
    figures: Callable[[nn.Module], dict[str, float]],
    config: RecipeConfig,
    until_step: int | None = None,
) -> Iterator[str]:
    """Train to the end, or to `until_step`, from the last checkpoint if there is one; yields progress lines.

    Args:
        state: untrained, of the model that `batch_loss` runs.
        batch_loss: of augmented clips; draws from the generator alone.
        figures: of the averaged model on held-out clips; they go to `curve.csv` at every checkpoint.
        config: says how long, how fast, and in which folder.
        until_step: stop there.
    """
    folder, clips = Path(config.folder), ClipSet(config, "train")
    state.resume(folder / "checkpoint.safetensors")
    last = config.steps if until_step is None else min(until_step, config.steps)
    started_s = time.process_time() - state.cpu_s
    while state.step < last:
        loss = _step(state, batch_loss, clips, config)
        state.cpu_s = time.process_time() - started_s
        if state.step % 10 == 0:
            yield f"step {state.step} of {config.steps}, loss {loss:.3f}, {state.cpu_s:.0f} CPU seconds"
        if state.step % config.evaluate_every == 0 or state.step == last:
            state.save(folder / "checkpoint.safetensors")
            row = figures(state.averaged_model())
            _append(folder / "curve.csv", {"step": state.step, "cpu_s": round(state.cpu_s), **row})
            yield f"held-out: {row}"


def learning_rate(config: RecipeConfig, step: int) -> float:
    """A short warm-up, flat to the middle, then a cosine to zero."""
    progress = step / config.steps
    fall = 1.0 if progress < 0.5 else 0.5 + 0.5 * math.cos(math.pi * (2 * progress - 1))
    return config.learning_rate * fall * min(1.0, (step + 1) / WARM_UP_STEPS)


def noise_levels(count: int, one_step_share: float, generator: Generator) -> Tensor:
    """(count,) sigmas: 1 in the given share, else shifted logit-normal."""
    drawn = torch.sigmoid(torch.randn(count, generator=generator))
    shifted = NOISE_SHIFT * drawn / (1 + (NOISE_SHIFT - 1) * drawn)
    return torch.where(torch.rand(count, generator=generator) < one_step_share, torch.ones(count), shifted)


def _step(
    state: TrainingState,
    batch_loss: Callable[[list[TrainingClip], Generator], Tensor],
    clips: ClipSet,
    config: RecipeConfig,
) -> float:
    generator = Generator().manual_seed(config.seed * 1_000_003 + state.step)
    batch = [augmented(clips[index], generator) for index in _batch_indices(state.step, len(clips), config)]
    loss = batch_loss(batch, generator)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.parameters, config.clip_norm)
    state.apply(learning_rate(config, state.step))
    return float(loss.detach())


def _batch_indices(step: int, count: int, config: RecipeConfig) -> list[int]:
    """Clips of one step: every clip once an epoch, each epoch in its own order."""
    indices = []
    for position in range(step * config.batch_clips, (step + 1) * config.batch_clips):
        epoch, place = divmod(position, count)
        order = torch.randperm(count, generator=Generator().manual_seed(config.seed + epoch))
        indices.append(int(order[place]))
    return indices


def _append(path: Path, row: dict[str, float]) -> None:
    fresh = not path.exists()
    with open(path, "a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if fresh:
            writer.writeheader()
        writer.writerow(row)
