# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe: the chunk-causal teacher, fine-tuned from the bidirectional model on noise levels that rise along a clip."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ..models.stage1 import Stage1Transformer
from ..models.stage1.context import ContextGroup
from ..sampling import chunk_flow_euler, flow_euler
from ..sampling.chunk_grid import chunk_grid
from .batch import Batch
from .flow_matching import flow_loss
from .noise import Mixture, mixed_levels, noised, shifted
from .prediction import whole_velocity


@dataclass(frozen=True)
class ChunkCausalSettings:
    """Section `recipe` of a configuration.

    Attributes:
        shift: of the noise levels.
        mixture: how the levels of chunks stand to each other.
        first_frame_share: of the clips, those whose first frame is given.
        sample_steps: of each chunk, for figures and sheets.
        sigma_floor: see FlowMatchingSettings.
    """

    shift: float = 9.95
    mixture: Mixture = field(default_factory=Mixture)
    first_frame_share: float = 0.9
    sample_steps: int = 20
    sigma_floor: float = 0.0


class ChunkCausal:
    """See Stage1Recipe."""

    settings_type = ChunkCausalSettings

    def __init__(
        self,
        model: Stage1Transformer,
        settings: ChunkCausalSettings,
        context: ContextGroup | None = None,
    ) -> None:
        self.trained, self._settings, self._context = model, settings, context

    def losses(self, step: int) -> dict:
        return {"loss": self._loss}

    def _loss(self, batch: Batch, generator: Generator) -> Tensor:
        chunks = tuple(chunk_grid(batch.frames))
        level = mixed_levels(len(batch), chunks, self._settings.mixture, generator)
        given = torch.rand(len(batch), generator=generator) < self._settings.first_frame_share
        drawn = noised(batch.latents, shifted(level, self._settings.shift), given, generator)
        return flow_loss(self.trained, batch, drawn, chunks, self._context, self._settings.sigma_floor)

    def sample(self, model: Stage1Transformer, batch: Batch, generator: Generator) -> Tensor:
        sigmas = flow_euler.sigma_schedule(self._settings.sample_steps)
        return sample_in_chunks(model, batch, sigmas, generator, self._context)


def sample_in_chunks(
    model: Stage1Transformer,
    batch: Batch,
    sigmas: list[float],
    generator: Generator,
    context: ContextGroup | None = None,
    interval_k: float | None = None,
) -> Tensor:
    """Clips (B,C,T,H,W) of the chunk-causal sampler; arguments as there."""
    noise = torch.randn(batch.latents.shape, generator=generator).to(batch.latents)
    chunks = tuple(chunk_grid(batch.frames))

    def predicted(latents: Tensor, timesteps: Tensor, count: int) -> Tensor:
        # Of later chunks earlier ones see nothing; whole clips can be shared by processes.
        frames = latents.shape[2]
        waiting = timesteps.new_full((*timesteps.shape[:2], batch.frames - frames), 1000)
        whole = torch.cat([latents, noise[:, :, frames:]], dim=2), torch.cat([timesteps, waiting], dim=2)
        return whole_velocity(model, *whole, batch, chunks, context)[:, :, :frames]

    first = batch.latents[:, :, :1]
    return torch.cat(
        list(chunk_flow_euler.sample(predicted, noise, first, sigmas, chunks, interval_k)), dim=2
    )
