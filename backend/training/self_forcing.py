# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe: distribution matching on the student's own rollouts.

The student (generator) makes clips as its sampler does, chunk by chunk with a carry. The difference of two scores moves
them: of the frozen real score, which knows the data, and of the fake critic, which learns what the student makes.
Self forcing (Huang et al. 2025) with the loss of distribution matching distillation (Yin et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from ..models.stage1 import CarryPlan, Stage1Transformer
from ..sampling import self_forcing
from ..sampling.chunk_grid import chunk_grid
from .batch import Batch
from .flow_matching import flow_loss
from .noise import Noised, noised, shifted
from .ode_init import checked_step_list
from .prediction import mean_over_frames, velocity
from .student import Student


@dataclass(frozen=True)
class SelfForcingSettings:
    """Section `recipe` of a configuration.

    Attributes:
        real_score: checkpoint of the bidirectional model that the real score and the critic start from, relative to the
            configuration.
        step_list: the student's timesteps, falling to 0.
        window: chunks before the current one that softmax attention sees; 0 for all of them.
        sink: whether chunk 0 stays in that window.
        generator_every: steps between two turns of the generator; the critic has one in every step.
        critic_rate_scale: the critic's learning rate as a share of the generator's.
        score_shift, lowest_timestep, highest_timestep: of the noise levels at which the scores are compared.
        real_guidance: classifier-free guidance scale of the real score.
        sigma_floor: of the critic's loss, see FlowMatchingSettings.
    """

    real_score: str
    step_list: tuple[float, ...] = self_forcing.RELEASED_STEP_LIST
    window: int = 0
    sink: bool = False
    generator_every: int = 5
    critic_rate_scale: float = 0.2
    score_shift: float = 10.0
    lowest_timestep: float = 20.0
    highest_timestep: float = 980.0
    real_guidance: float = 3.0
    sigma_floor: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "step_list", checked_step_list(self.step_list))


class SelfForcing:
    """See Stage1Recipe.

    Args:
        generator: streaming student.
        critic: bidirectional, starts as the real score.
        real: bidirectional, frozen.
        no_text: states (1,1,L,C_caption) and mask (1,L) of the empty prompt.
    """

    settings_type = SelfForcingSettings

    def __init__(
        self,
        generator: Stage1Transformer,
        critic: Stage1Transformer,
        real: Stage1Transformer,
        no_text: tuple[Tensor, Tensor],
        settings: SelfForcingSettings,
    ) -> None:
        self.trained = nn.ModuleDict({"generator": generator, "critic": critic})
        self.rate_scales = {"critic": settings.critic_rate_scale}
        self._real, self._no_text, self._settings = real.eval().requires_grad_(False), no_text, settings

    def losses(self, step: int) -> dict:
        turns = {"critic": self._critic_loss}
        if step % self._settings.generator_every == 0:
            turns["generator"] = self._generator_loss
        return turns

    def sample(self, model: nn.ModuleDict, batch: Batch, generator: Generator) -> Tensor:
        sigmas = [step / 1000 for step in self._settings.step_list]
        chunks = chunk_grid(batch.frames)
        noise = torch.randn(batch.latents.shape, generator=generator).to(batch.latents)
        student = Student(model["generator"], batch, self._plan(chunks))
        first = batch.latents[:, :, :1]
        parts = self_forcing.sample(student, lambda chunk: noise[:, :, chunk], first, sigmas, chunks)
        return torch.cat(list(parts), dim=2)

    def rollout(self, batch: Batch, generator: Generator, steps: int | None = None) -> Tensor:
        """Clips (B,C,T,H,W) of the student that carry the gradient of the last step of each chunk.

        All chunks leave after the same step, drawn from those of the sampler, or after `steps`. Between the steps fresh
        noise is mixed in, and a finished chunk goes into the carry without gradient.
        """
        sigmas = [step / 1000 for step in self._settings.step_list]
        last = int(torch.randint(len(sigmas) - 1, (), generator=generator)) if steps is None else steps - 1
        chunks = chunk_grid(batch.frames)
        student = Student(self.trained["generator"], batch, self._plan(chunks))
        parts = []
        for chunk in chunks:
            given = 1 if chunk.start == 0 else 0
            shape = batch.latents[:, :, chunk].shape
            timesteps = torch.zeros(len(batch), 1, shape[2], device=batch.latents.device)
            clean = torch.zeros_like(batch.latents[:, :, chunk])
            for step in range(last + 1):
                noise = torch.randn(shape, generator=generator).to(clean)
                state = (1 - sigmas[step]) * clean.detach() + sigmas[step] * noise
                state[:, :, :given] = batch.latents[:, :, :given]
                timesteps[..., given:] = 1000 * sigmas[step]
                with torch.set_grad_enabled(step == last and torch.is_grad_enabled()):
                    clean = state - sigmas[step] * student.velocity(state, timesteps, chunk)
            clean = torch.cat([batch.latents[:, :, :given], clean[:, :, given:]], dim=2)
            student.remember(clean.detach(), chunk)
            parts.append(clean)
        return torch.cat(parts, dim=2)

    def _critic_loss(self, batch: Batch, generator: Generator) -> Tensor:
        """Flow matching on what the student makes."""
        with torch.no_grad():
            made = self.rollout(batch, generator)
        drawn = self._drawn(made, generator)
        student = replace(batch, latents=made)
        return flow_loss(self.trained["critic"], student, drawn, sigma_floor=self._settings.sigma_floor)

    def _generator_loss(self, batch: Batch, generator: Generator) -> Tensor:
        """Half a square whose gradient is the difference of the scores, over the real score's mean distance."""
        made = self.rollout(batch, generator)
        with torch.no_grad():
            drawn = self._drawn(made, generator)
            fake = self._clean(self.trained["critic"], drawn, batch)
            real = self._guided(drawn, batch)
            distance = (made - real)[:, :, 1:].abs().mean(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1e-6)
            target = made - (fake - real) / distance
        squares = batch.weighed((made - target).square())
        return 0.5 * mean_over_frames(squares, drawn.sigma > 0, slice(None), None)

    def _drawn(self, made: Tensor, generator: Generator) -> Noised:
        settings = self._settings
        level = torch.rand(len(made), 1, generator=generator).expand(-1, made.shape[2])
        sigma = shifted(level, settings.score_shift)
        sigma = sigma.clamp(settings.lowest_timestep / 1000, settings.highest_timestep / 1000)
        return noised(made.detach(), sigma, torch.ones(len(made), dtype=torch.bool), generator)

    def _clean(self, model: Stage1Transformer, drawn: Noised, batch: Batch) -> Tensor:
        predicted, _ = velocity(model, drawn.latents, drawn.timesteps, batch)
        return drawn.latents - drawn.sigma[:, None, :, None, None] * predicted

    def _guided(self, drawn: Noised, batch: Batch) -> Tensor:
        with_text = self._clean(self._real, drawn, batch)
        scale = self._settings.real_guidance
        if scale == 1:
            return with_text
        no_text = (part.to(batch.text).expand(len(batch), *part.shape[1:]) for part in self._no_text)
        text, mask = no_text
        without = self._clean(self._real, drawn, replace(batch, text=text, text_mask=mask))
        return without + scale * (with_text - without)

    def _plan(self, chunks: list[slice]) -> CarryPlan:
        first = chunks[0].stop
        other = chunks[1].stop - chunks[1].start if len(chunks) > 1 else first
        if self._settings.window == 0:
            return CarryPlan.unlimited(first, other, len(chunks))
        return CarryPlan(first, other, self._settings.window, self._settings.sink)
