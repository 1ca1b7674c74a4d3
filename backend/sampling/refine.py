# SPDX-License-Identifier: GPL-3.0-or-later
"""The refiner's sampler: three Euler steps from latents that are mixed with noise, a few frames at a time.

The clip's first latent frame, the sink, is never refined; all frames see it. One block of all other frames makes
this the single-shot recipe of the bidirectional release; blocks of three frames, each seeing a window of refined ones
before it, are the streaming recipe. Conventions as in `flow_euler`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

# Fixed: the model was trained to start from exactly this much noise, and to take these steps.
SIGMAS = (0.909375, 0.725, 0.421875, 0.0)


class Refiner(Protocol):
    """A model that keeps what it has to know of earlier frames."""

    def begin(self, sink: Tensor) -> None:
        """Remember the clip's first latent frame (B,C,1,h,w)."""
        ...

    def place(self, frames: slice) -> None:
        """Make these latent frames of the clip the active ones."""
        ...

    def velocity(self, latents: Tensor, sigma: float) -> Tensor:
        """Active frames (B,C,t,h,w) -> velocity; remembers nothing."""
        ...

    def remember(self, latents: Tensor) -> None:
        """Take the refined active frames (B,C,t,h,w) into account from now on."""
        ...


@torch.no_grad()
def refine(
    refiner: Refiner,
    chunks: Iterable[tuple[slice, Tensor]],
    noise: Callable[[slice], Tensor],
    finished: Callable[[slice], Tensor | None] = lambda frames: None,
    on_step: Callable[[slice, int], None] | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Refine one chunk after the other, as soon as it is there.

    Args:
        refiner: the model; remembers a chunk only before the next one begins.
        chunks: slices of the clip's latent frames, in order and without gaps, with the latents (B,C,t,h,w) of stage 1;
            the first has the sink and at least one other frame.
        noise: unit normal (B,C,t,h,w) for some latent frames; its dtype is that of the latents between steps.
        finished: refined latents of a chunk that an earlier run has made, or None.
        on_step: called after each step as (chunk, step 1..3); whatever it raises ends the run.

    Yields:
        The same slices with refined latents; the sink as it came.

    Raises:
        ValueError: there is nothing beside the sink to refine.
    """
    before: Tensor | None = None
    for chunk, latents in chunks:
        given = 1 if chunk.start == 0 else 0
        active = slice(chunk.start + given, chunk.stop)
        if active.start == active.stop:
            raise ValueError("The clip has a single latent frame; the refiner needs at least two.")
        if given:
            refiner.begin(latents[:, :, :1])
        if before is not None:
            refiner.remember(before)
        refiner.place(active)
        refined = finished(chunk)
        if refined is None:
            own = _refined(refiner, latents[:, :, given:], noise(active), chunk, on_step)
            refined = torch.cat([latents[:, :, :given].to(own.dtype), own], dim=2)
        before = refined[:, :, given:]
        yield chunk, refined


def _refined(
    refiner: Refiner,
    latents: Tensor,
    noise: Tensor,
    chunk: slice,
    on_step: Callable[[slice, int], None] | None,
) -> Tensor:
    mixed = (1 - SIGMAS[0]) * latents.float() + SIGMAS[0] * noise.float()
    state = mixed.to(noise.dtype)
    for step, (sigma, next_sigma) in enumerate(zip(SIGMAS, SIGMAS[1:], strict=False), start=1):
        moved = state.float() + (next_sigma - sigma) * refiner.velocity(state, sigma).float()
        state = moved.to(noise.dtype)
        if on_step is not None:
            on_step(chunk, step)
    return state
