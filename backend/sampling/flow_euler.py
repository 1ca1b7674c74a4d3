# SPDX-License-Identifier: GPL-3.0-or-later
"""Flow-matching Euler sampler with per-frame timesteps; the first latent frame is given and stays.

Convention: x_sigma = (1 - sigma) data + sigma noise, velocity = noise - data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .blockout_guidance import BlockoutGuidance

VelocityFunction = Callable[[Tensor, Tensor], Tensor]
RELEASED_SHIFT = 9.8
RELEASED_GUIDANCE = 5.0


def shifted(sigma: float, shift: float) -> float:
    return shift * sigma / (1 + (shift - 1) * sigma)


def sigma_schedule(steps: int, shift: float = RELEASED_SHIFT) -> list[float]:
    """steps + 1 noise levels from 1 down to 0.

    As in the released pipeline the shift acts twice: on the end of the uniform grid, the smallest training sigma
    0.001, and then on every grid point.
    """
    if steps < 1:
        raise ValueError(f"A sampler needs at least 1 step, not {steps}.")
    last = shifted(0.001, shift)
    span = max(steps - 1, 1)
    return [shifted(1 + (last - 1) * k / span, shift) for k in range(steps)] + [0.0]


def guided(
    denoise: Callable[[Tensor, Tensor], Tensor], guidance_scale: float = RELEASED_GUIDANCE
) -> VelocityFunction:
    """Classifier-free guidance: `denoise` sees a batch twice as large, ordered [negative, conditional]."""

    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        pair = denoise(torch.cat([latents, latents]), torch.cat([timesteps, timesteps]))
        negative, conditional = pair.float().chunk(2)
        return negative + guidance_scale * (conditional - negative)

    return velocity


@torch.no_grad()
def sample(
    velocity_fn: VelocityFunction,
    noise: Tensor,
    first_latent: Tensor,
    sigmas: Sequence[float],
    on_step: Callable[[int, int, Tensor], None] | None = None,
    guidance: BlockoutGuidance | None = None,
) -> Tensor:
    """Integrate from noise to data.

    Args:
        velocity_fn: (latents (B,C,T,H,W), timesteps (B,1,T) fp32 on the 0..1000 scale) -> velocity (B,C,T,H,W).
        noise: (B,C,T,H,W) unit normal; its dtype is that of the latents between steps.
        first_latent: (B,C,1,H,W), the clean first frame; its timestep is 0 in every step.
        sigmas: falling noise levels, the last one 0.
        on_step: called after each step as (step 1..steps, steps, latents); whatever it raises ends the run.
        guidance: draws the state to the projected preview after each step.

    Returns:
        Latents (B,C,T,H,W) whose first frame is `first_latent`.
    """
    latents = noise.clone()
    latents[:, :, :1] = first_latent
    steps = len(sigmas) - 1
    timesteps = torch.zeros(noise.shape[0], 1, noise.shape[2], device=noise.device)
    for step in range(steps):
        timesteps[..., 1:] = 1000 * sigmas[step]
        velocity = velocity_fn(latents, timesteps)
        moving = latents[:, :, 1:].float() - (sigmas[step] - sigmas[step + 1]) * velocity[:, :, 1:].float()
        latents[:, :, 1:] = moving.to(latents.dtype)
        if guidance is not None:
            reached = torch.full((noise.shape[2],), sigmas[step + 1], device=noise.device)
            latents = guidance.drawn(latents, noise, reached, slice(0, noise.shape[2]))
        if on_step is not None:
            on_step(step + 1, steps, latents)
    return latents
