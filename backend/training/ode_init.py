# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe: the student learns to jump from any of its few noise levels to the end of the teacher's trajectory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..models.stage1 import Stage1Transformer
from ..models.stage1.context import ContextGroup
from ..sampling.chunk_grid import chunk_grid
from ..sampling.self_forcing import RELEASED_STEP_LIST
from .batch import Batch
from .chunk_causal import sample_in_chunks
from .prediction import mean_over_frames, velocity


@dataclass(frozen=True)
class OdeInitSettings:
    """Section `recipe` of a configuration.

    Attributes:
        step_list: the student's timesteps, falling to 0.
        teacher_steps, teacher_guidance: of the sampler that makes the trajectories.
    """

    step_list: tuple[float, ...] = RELEASED_STEP_LIST
    teacher_steps: int = 60
    teacher_guidance: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_list", checked_step_list(self.step_list))


class OdeInit:
    """See Stage1Recipe."""

    settings_type = OdeInitSettings

    def __init__(
        self, model: Stage1Transformer, settings: OdeInitSettings, context: ContextGroup | None = None
    ) -> None:
        self.trained, self._settings, self._context = model, settings, context

    def losses(self, step: int) -> dict:
        return {"loss": self._loss}

    def _loss(self, batch: Batch, generator: Generator) -> Tensor:
        """Error of the clean latents; every chunk starts from a snapshot of its own choice, also the clean one."""
        chunks = tuple(chunk_grid(batch.frames))
        clips, count = len(batch), len(self._settings.step_list)
        lengths = torch.tensor([chunk.stop - chunk.start for chunk in chunks])
        drawn = torch.randint(count, (clips, len(chunks)), generator=generator).repeat_interleave(
            lengths, dim=1
        )
        timesteps = torch.tensor(self._settings.step_list, dtype=torch.float32)[drawn]
        timesteps[:, 0] = 0
        place = drawn.to(batch.latents.device)[:, None, None, :, None, None]
        states = torch.take_along_dim(batch.snapshots, place, dim=1)[:, 0]
        states[:, :, 0] = batch.latents[:, :, 0]
        timesteps = timesteps.to(states)
        predicted, own = velocity(self.trained, states, timesteps[:, None], batch, chunks, self._context)
        sigma = (timesteps / 1000)[:, None, own, None, None]
        clean = states[:, :, own] - sigma * predicted
        squares = (clean - batch.snapshots[:, -1, :, own]).square()
        return mean_over_frames(batch.weighed(squares, own), timesteps > 0, own, self._context)

    def sample(self, model: Stage1Transformer, batch: Batch, generator: Generator) -> Tensor:
        """The student's few steps, one chunk after the other, each seeing all chunks before it."""
        sigmas = [step / 1000 for step in self._settings.step_list]
        return sample_in_chunks(model, batch, sigmas, generator, self._context, interval_k=1.0)


def checked_step_list(steps: tuple[float, ...]) -> tuple[float, ...]:
    """As a tuple.

    Raises:
        ValueError: it does not fall from at most 1000 to 0.
    """
    steps = tuple(steps)
    falls = all(before > after for before, after in zip(steps, steps[1:], strict=False))
    if len(steps) < 2 or steps[0] > 1000 or steps[-1] != 0 or not falls:
        raise ValueError(
            f"recipe.step_list must fall from at most 1000 to 0, like 1000, 960, 889, 727, 0; it is {steps}."
        )
    return steps
