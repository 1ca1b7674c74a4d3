# SPDX-License-Identifier: GPL-3.0-or-later
"""The streaming student's sampler: a few deterministic steps for each chunk, then one look at the clean result.

No noise is added between the steps; that belongs to the training rollout. Conventions as in `flow_euler`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .blockout_guidance import BlockoutGuidance

# On the 0..1000 scale, as the released student was trained: a uniform grid under a shift of 8, not shifted again.
RELEASED_STEP_LIST = (1000, 960, 889, 727, 0)


class Student(Protocol):
    """A model that keeps what it has to know of earlier chunks."""

    def velocity(self, latents: Tensor, timesteps: Tensor, chunk: slice) -> Tensor:
        """Latents (B,C,t,H,W) and timesteps (B,1,t) of a chunk -> velocity; remembers nothing."""
        ...

    def remember(self, latents: Tensor, chunk: slice) -> None:
        """Take the finished latents (B,C,t,H,W) of a chunk into account from now on."""
        ...


def chunk_noise(
    frame_shape: tuple[int, int, int], seed: int, dtype: torch.dtype, device: torch.device | str
) -> Callable[[slice], Tensor]:
    """Unit normal latents (1,C,t,H,W) for each chunk, each drawn by itself, on the CPU.

    The noise of a chunk depends on the seed and its place in the clip, not on how long the clip is or which chunks
    were made in this run. So a longer clip begins like a shorter one, and nothing grows with it.
    """

    def noise(chunk: slice) -> Tensor:
        words = np.random.SeedSequence((seed, chunk.start)).generate_state(1, np.uint32)
        generator = torch.Generator().manual_seed(int(words[0]))
        channels, height, width = frame_shape
        shape = 1, channels, chunk.stop - chunk.start, height, width
        return torch.randn(shape, generator=generator, dtype=dtype).to(device)

    return noise


@torch.no_grad()
def sample(
    student: Student,
    noise: Callable[[slice], Tensor],
    first_latent: Tensor,
    sigmas: Sequence[float],
    chunks: Iterable[slice],
    finished: Callable[[slice], Tensor | None] = lambda chunk: None,
    on_step: Callable[[slice, int], None] | None = None,
    guidance: BlockoutGuidance | None = None,
) -> Iterator[Tensor]:
    """Make one chunk after the other.

    Args:
        student: the model; sees the clean latents of a chunk before the next chunk begins.
        noise: unit normal (B,C,t,H,W) for a chunk; its dtype is that of the latents between steps.
        first_latent: (B,C,1,H,W), the clean first frame; its timestep is 0 in every step.
        sigmas: falling noise levels, the last one 0, taken as they are.
        chunks: slices of the clip's latent frames, in order and without gaps; may be endless.
        finished: latents of a chunk that an earlier run has made, or None.
        on_step: called after each step as (chunk, step 1..steps); whatever it raises ends the run.
        guidance: draws the state of a chunk to the projected preview after each step. As no noise is added between
            the steps, the noise in the state is the chunk's start noise to the end.

    Yields:
        Latents (B,C,t,H,W) of one chunk after the other; the first frame is `first_latent`.

    Raises:
        ValueError: the noise levels do not fall to 0.
    """
    if len(sigmas) < 2 or sigmas[-1] != 0 or any(a <= b for a, b in zip(sigmas, sigmas[1:], strict=False)):
        raise ValueError(
            f"The step list must fall to 0 from at least one level above it, not {list(sigmas)}."
        )
    before: tuple[Tensor, slice] | None = None
    for chunk in chunks:
        if before is not None:
            student.remember(*before)
        latents = finished(chunk)
        if latents is None:
            latents = _denoised(student, noise(chunk), first_latent, sigmas, chunk, on_step, guidance)
        before = latents, chunk
        yield latents


def _denoised(
    student: Student,
    noise: Tensor,
    first_latent: Tensor,
    sigmas: Sequence[float],
    chunk: slice,
    on_step: Callable[[slice, int], None] | None,
    guidance: BlockoutGuidance | None,
) -> Tensor:
    latents = noise.clone()
    given = 1 if chunk.start == 0 else 0  # frames of the chunk that are no noise
    latents[:, :, :given] = first_latent[:, :, :given]
    timesteps = torch.zeros(latents.shape[0], 1, latents.shape[2], device=latents.device)
    for step, (sigma, next_sigma) in enumerate(zip(sigmas, sigmas[1:], strict=False), start=1):
        timesteps[..., given:] = 1000 * sigma
        velocity = student.velocity(latents, timesteps, chunk)[:, :, given:].float()
        moved = latents[:, :, given:].float() + (next_sigma - sigma) * velocity
        latents[:, :, given:] = moved.to(latents.dtype)
        if guidance is not None:
            reached = torch.full((latents.shape[2],), next_sigma, device=latents.device)
            latents = guidance.drawn(latents, noise, reached, chunk)
        if on_step is not None:
            on_step(chunk, step)
    return latents
