# SPDX-License-Identifier: GPL-3.0-or-later
"""The teacher's sampler: chunks start one after the other, so that noise levels stand like a staircase.

Every step runs all chunks that have started, without a cache. Chunks that are finished stay in it as clean context.
Conventions as in `flow_euler`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .blockout_guidance import BlockoutGuidance


def start_steps(chunks: int, steps: int, interval_k: float | None = None) -> list[int]:
    """The global step at which each chunk starts.

    Args:
        chunks: how many there are.
        steps: that each of them takes.
        interval_k: time between two starts as a share of `steps`; None spreads all starts over `steps`.
    """
    if interval_k is None:
        return [index * steps // chunks for index in range(chunks)]
    return [int(index * interval_k * steps + 1e-9) for index in range(chunks)]


@torch.no_grad()
def sample(
    velocity_fn: Callable[[Tensor, Tensor, int], Tensor],
    noise: Tensor,
    first_latent: Tensor,
    sigmas: Sequence[float],
    chunks: Sequence[slice],
    interval_k: float | None = None,
    on_step: Callable[[int, int], None] | None = None,
    guidance: BlockoutGuidance | None = None,
) -> Iterator[Tensor]:
    """Integrate from noise to data and give each chunk as soon as it is finished.

    Args:
        velocity_fn: (latents (B,C,t,H,W), timesteps (B,1,t) fp32 on the 0..1000 scale, n) -> velocity, for the first
            n chunks.
        noise: (B,C,T,H,W) unit normal; its dtype is that of the latents between steps.
        first_latent: (B,C,1,H,W), the clean first frame; its timestep is 0 in every step.
        sigmas: falling noise levels that every chunk passes, the last one 0.
        chunks: slices of T, in order and without gaps. A single one makes this the plain sampler.
        interval_k: see `start_steps`.
        on_step: called after each step as (step 1..steps, steps); whatever it raises ends the run.
        guidance: draws the state of every frame to the projected preview after each of its steps.

    Yields:
        Latents (B,C,t,H,W) of one chunk after the other; the first frame is `first_latent`.
    """
    latents = noise.clone()
    latents[:, :, :1] = first_latent
    own_steps = len(sigmas) - 1
    starts = start_steps(len(chunks), own_steps, interval_k)
    levels = torch.tensor(sigmas, dtype=torch.float32, device=noise.device)
    frame_start = torch.cat(
        [torch.full((chunk.stop - chunk.start,), start) for chunk, start in zip(chunks, starts, strict=True)]
    )
    finished = 0
    for step in range(starts[-1] + own_steps):
        active = sum(start <= step for start in starts)
        frames = chunks[active - 1].stop
        own_step = (step - frame_start[:frames]).clamp(max=own_steps)
        own_step_after = (own_step + 1).clamp(max=own_steps)
        sigma, next_sigma = levels[own_step], levels[own_step_after]
        sigma[0] = next_sigma[0] = 0
        timesteps = (1000 * sigma).expand(noise.shape[0], 1, -1)
        velocity = velocity_fn(latents[:, :, :frames], timesteps, active)
        moved = latents[:, :, :frames].float() + (next_sigma - sigma)[:, None, None] * velocity.float()
        moved[:, :, :1] = first_latent
        latents[:, :, :frames] = moved.to(latents.dtype)
        if guidance is not None:
            # Finished frames do not move any more and must not be drawn again.
            reached = torch.where(own_step < own_steps, levels[own_step_after], torch.nan)
            latents[:, :, :frames] = guidance.drawn(
                latents[:, :, :frames], noise[:, :, :frames], reached, slice(0, frames)
            )
        if on_step is not None:
            on_step(step + 1, starts[-1] + own_steps)
        while finished < len(chunks) and step + 1 == starts[finished] + own_steps:
            yield latents[:, :, chunks[finished]].clone()
            finished += 1
