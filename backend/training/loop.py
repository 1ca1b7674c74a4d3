# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop that the recipes share.

Everything random in a step follows from the seed and the step, and so does which clips it sees: a run that was
stopped, in whatever way, goes on exactly as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn
from torch.distributed.tensor import DTensor

from ..models.tensor_file import FileTensor
from .checkpoint import Optimization, TrainingState, write_whole
from .journal import Journal
from .ranks import ALONE, Ranks

CHECKPOINT = "checkpoint.safetensors"
NOISE_SHIFT = 3.0
_LINE_EVERY = 10


class LoopConfig(Optimization, Protocol):
    """What the loop is told.

    Attributes:
        folder: of the checkpoint, the tables and the sheets.
        seed: of everything random in the steps.
        steps: how many there are.
        batch_clips, accumulate: clips of one pass in one process, and passes whose gradients are summed up for a step.
        clip_norm: longest gradient of a step.
        warm_up_steps: over which the learning rate rises; it is flat to `flat_share` of the steps, then falls to zero
            as a cosine.
        evaluate_every: steps between held-out figures, sheets and checkpoints.
    """

    folder: str
    seed: int
    steps: int
    batch_clips: int
    accumulate: int
    clip_norm: float
    warm_up_steps: int
    flat_share: float
    evaluate_every: int


class Samples(Protocol):
    """What is trained on."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int], generator: Generator) -> Any:
        """These clips, augmented by draws from the generator alone."""
        ...

    def tensors(self, batch: Any) -> dict[str, Tensor]:
        """What a batch consists of, to be looked at when it went wrong."""
        ...


@dataclass(frozen=True)
class Recipe:
    """What the loop runs.

    Attributes:
        losses: of a step, by name; the optimiser takes one turn with each. They draw from the generator alone.
        figures: of the averaged model on held-out clips; they go to `curve.csv` at every checkpoint.
        sheet: writes a sheet of samples of the averaged model to the file that it is given; None without.
    """

    losses: Callable[[int], Mapping[str, Callable[[Any, Generator], Tensor]]]
    figures: Callable[[nn.Module], dict[str, float]]
    sheet: Callable[[nn.Module, Path], None] | None = None


@dataclass(frozen=True)
class Progress:
    """After a step; of its losses the first."""

    step: int
    steps: int
    loss: float
    samples_per_s: float
    cpu_s: float

    def __str__(self) -> str:
        return (
            f"step {self.step} of {self.steps}, loss {self.loss:.3f}, {self.samples_per_s:.2f} samples a second, "
            f"{self.cpu_s:.0f} CPU seconds"
        )


def run(
    state: TrainingState,
    recipe: Recipe,
    samples: Samples,
    config: LoopConfig,
    until_step: int | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[Progress | str]:
    """Train to the end, or to `until_step`, from the last checkpoint if there is one.

    Yields:
        Progress after every step, and the held-out figures as a line.

    Raises:
        FloatingPointError: loss or gradient are not finite; the batch is saved, the last checkpoint is as it was.
        ValueError: there are no clips, or the checkpoint does not fit.
    """
    if not len(samples):
        raise ValueError("There are no clips to train on; make or name the data first.")
    folder = Path(config.folder)
    folder.mkdir(parents=True, exist_ok=True)
    state.resume(folder / CHECKPOINT)
    curve, losses = Journal(folder / "curve.csv"), Journal(folder / "losses.csv")
    if ranks.is_first:
        curve.cut_behind(state.step)
        losses.cut_behind(state.step)
    last = config.steps if until_step is None else min(until_step, config.steps)
    started_s, ends = time.process_time() - state.cpu_s, deque([time.monotonic()], maxlen=_LINE_EVERY + 1)
    state.model.train()
    while state.step < last:
        row = _step(state, recipe, samples, config, ranks)
        state.cpu_s = time.process_time() - started_s
        ends.append(time.monotonic())
        clips = config.batch_clips * config.accumulate * ranks.replicas * (len(ends) - 1)
        rate = clips / max(ends[-1] - ends[0], 1e-9)
        if ranks.is_first:
            losses.append({"step": state.step, **row, "samples_per_s": round(rate, 3)})
        yield Progress(state.step, config.steps, next(iter(row.values())), rate, state.cpu_s)
        if state.step % config.evaluate_every == 0 or state.step == last:
            with state.averaged() as model:
                figures = recipe.figures(model)
                if recipe.sheet is not None:
                    recipe.sheet(model, folder / f"sheet_{state.step:06d}.png")
            if ranks.is_first:
                curve.append({"step": state.step, "cpu_s": round(state.cpu_s), **figures})
            state.save(folder / CHECKPOINT, ranks.is_first)
            yield f"held-out: {figures}"
            ends.clear()
            ends.append(time.monotonic())


def lines(reports: Iterator[Progress | str]) -> Iterator[str]:
    """As lines to read, of the steps every tenth."""
    for report in reports:
        if not isinstance(report, Progress) or report.step % _LINE_EVERY == 0:
            yield str(report)


def learning_rate(config: LoopConfig, step: int) -> float:
    """A short warm-up, flat for a share of the steps, then a cosine to zero."""
    progress, fall = step / config.steps, 1.0
    if progress >= config.flat_share:
        fall = 0.5 + 0.5 * math.cos(math.pi * (progress - config.flat_share) / (1 - config.flat_share))
    return config.learning_rate * fall * min(1.0, (step + 1) / max(config.warm_up_steps, 1))


def noise_levels(count: int, one_step_share: float, generator: Generator) -> Tensor:
    """(count,) sigmas: 1 in the given share, else shifted logit-normal."""
    drawn = torch.sigmoid(torch.randn(count, generator=generator))
    shifted = NOISE_SHIFT * drawn / (1 + (NOISE_SHIFT - 1) * drawn)
    return torch.where(torch.rand(count, generator=generator) < one_step_share, torch.ones(count), shifted)


def _step(
    state: TrainingState, recipe: Recipe, samples: Samples, config: LoopConfig, ranks: Ranks
) -> dict[str, float]:
    """One step, all of its turns; the row of `losses.csv` without its step."""
    passes = []
    for number in range(config.accumulate):
        lane = number * ranks.replicas + ranks.replica
        # Processes that share a clip share its draws.
        generator = Generator().manual_seed(config.seed * 1_000_003 + state.step + (lane << 40))
        indices = _indices(state.step, lane, len(samples), config, ranks)
        passes.append((indices, samples.batch(indices, generator), generator))
    rate, row = learning_rate(config, state.step), {}
    for name, loss_of in recipe.losses(state.step).items():
        state.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for _, batch, generator in passes:
            loss = loss_of(batch, generator) / config.accumulate
            loss.backward()
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(state.parameters, config.clip_norm)
        norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        total = ranks.mean(total)
        if not (math.isfinite(total) and math.isfinite(norm)):
            batches = [
                {"clips": torch.tensor(indices), **samples.tensors(batch)} for indices, batch, _ in passes
            ]
            _stop(state, name, batches, (total, norm), Path(config.folder), ranks)
        state.apply(rate)
        row |= {name: total, f"{name}_gradient_norm": norm}
    state.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    return {**row, "learning_rate": rate}


def _stop(
    state: TrainingState,
    turn: str,
    batches: list[dict[str, Tensor]],
    found: tuple[float, float],
    folder: Path,
    ranks: Ranks,
) -> None:
    """Keep the batches, with the numbers that their clips have in the data, and end the run."""
    path = folder / f"not_finite_step_{state.step + 1}_replica_{ranks.replica}.safetensors"
    tensors = {
        f"{number}.{name}": FileTensor(tuple(value.shape), value.dtype, value.detach().cpu().contiguous)
        for number, batch in enumerate(batches)
        for name, value in batch.items()
    }
    write_whole(path, tensors)
    values = [(name, value) for batch in batches for name, value in batch.items()]
    broken = sorted({name for name, value in values if not value.isfinite().all()})
    advice = "Its clips are finite; lower learning_rate or clip_norm"
    if broken:
        advice = f"Its clips have numbers that are not finite ({', '.join(broken)}); mend or remove them"
    raise FloatingPointError(
        f"step {state.step + 1} has a loss of {found[0]} and a gradient of length {found[1]} ({turn}). {advice}, "
        f"and start again. Its batch is in {path}; the last checkpoint is from before."
    )


def _indices(step: int, lane: int, count: int, config: LoopConfig, ranks: Ranks) -> list[int]:
    """Clips of one pass: every clip once an epoch, each epoch in its own order."""
    first = (step * config.accumulate * ranks.replicas + lane) * config.batch_clips
    indices = []
    for position in range(first, first + config.batch_clips):
        epoch, place = divmod(position, count)
        order = torch.randperm(count, generator=Generator().manual_seed(config.seed + epoch))
        indices.append(int(order[place]))
    return indices
