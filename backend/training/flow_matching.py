# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe: rectified flow with a noise level for every frame, and a first frame that is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..models.stage1 import Stage1Transformer
from ..models.stage1.context import ContextGroup
from ..sampling import flow_euler
from .batch import Batch
from .noise import Noised, noised, one_level, shifted
from .prediction import mean_over_frames, velocity, whole_velocity


@dataclass(frozen=True)
class FlowMatchingSettings:
    """Section `recipe` of a configuration.

    Attributes:
        shift: of the noise levels; the released model was trained with 9.95 and is sampled with 9.8.
        first_frame_share: of the clips, those whose first frame is given.
        sample_steps: of the sampler, for figures and sheets.
        sigma_floor: noise level below which the error of the clean latents counts instead of the velocity's, for models
            that say these; 0 for the velocity's at all levels.
    """

    shift: float = 9.95
    first_frame_share: float = 1.0
    sample_steps: int = 20
    sigma_floor: float = 0.0


class FlowMatching:
    """See Stage1Recipe."""

    settings_type = FlowMatchingSettings

    def __init__(
        self,
        model: Stage1Transformer,
        settings: FlowMatchingSettings,
        context: ContextGroup | None = None,
    ) -> None:
        self.trained, self._settings, self._context = model, settings, context

    def losses(self, step: int) -> dict:
        return {"loss": self._loss}

    def _loss(self, batch: Batch, generator: Generator) -> Tensor:
        level = one_level(len(batch), batch.frames, generator)
        drawn = self._drawn(batch, level, generator)
        return flow_loss(self.trained, batch, drawn, (), self._context, self._settings.sigma_floor)

    def _drawn(self, batch: Batch, level: Tensor, generator: Generator) -> Noised:
        given = torch.rand(len(batch), generator=generator) < self._settings.first_frame_share
        return noised(batch.latents, shifted(level, self._settings.shift), given, generator)

    def sample(self, model: Stage1Transformer, batch: Batch, generator: Generator) -> Tensor:
        def predicted(latents: Tensor, timesteps: Tensor) -> Tensor:
            return whole_velocity(model, latents, timesteps, batch, (), self._context)

        noise = torch.randn(batch.latents.shape, generator=generator).to(batch.latents)
        sigmas = flow_euler.sigma_schedule(self._settings.sample_steps)
        return flow_euler.sample(predicted, noise, batch.latents[:, :, :1], sigmas)


def flow_loss(
    model: Stage1Transformer,
    batch: Batch,
    drawn: Noised,
    chunks: tuple = (),
    context: ContextGroup | None = None,
    sigma_floor: float = 0.0,
) -> Tensor:
    """Mean square error of the velocity over the frames that are not given; settings as of the recipe."""
    predicted, own = velocity(model, drawn.latents, drawn.timesteps, batch, chunks, context)
    error = predicted - (drawn.noise - batch.latents)[:, :, own]
    if sigma_floor:
        error = error * (drawn.sigma / sigma_floor).clamp(max=1)[:, None, own, None, None]
    return mean_over_frames(batch.weighed(error.square(), own), drawn.sigma > 0, own, context)
