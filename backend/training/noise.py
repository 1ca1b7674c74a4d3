# SPDX-License-Identifier: GPL-3.0-or-later
"""Noise levels for training, one for every latent frame, and clips at these levels.

Conventions as in `sampling.flow_euler`: x_sigma = (1 - sigma) data + sigma noise, timestep 1000 sigma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Noised:
    """Clips at their noise levels.

    Attributes:
        latents: (B,C,T,H,W).
        noise: what was mixed in, the same shape.
        sigma: (B,T), 0 where a frame is given.
    """

    latents: Tensor
    noise: Tensor
    sigma: Tensor

    @property
    def timesteps(self) -> Tensor:
        """(B,1,T)."""
        return 1000 * self.sigma[:, None]


@dataclass(frozen=True)
class Mixture:
    """How noise levels of chunks stand to each other: shares of the clips, which sum up to 1. In every way one chunk,
    the anchor, has a logit-normal level.

    The names and shares are those of the configuration that SANA-WM's chunk-causal teacher was trained with.

    Attributes:
        same: all chunks have it.
        incremental: levels rise along the clip; the anchor is any chunk, the others are uniform below and above it.
        last_anchor: the same with the last chunk as the anchor, so that all levels up to it are below its own.
        clean: the last chunk has it and everything before is clean.
    """

    same: float = 0.1
    incremental: float = 0.4
    last_anchor: float = 0.4
    clean: float = 0.1

    def __post_init__(self) -> None:
        shares = asdict(self).values()
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"The shares of the noise mixture must sum up to 1, not {sum(shares):g}.")


def shifted(level: Tensor, shift: float) -> Tensor:
    """Uniform-grid levels 0..1 -> sigmas, pushed towards 1 by the flow shift."""
    return shift * level / (1 + (shift - 1) * level)


def one_level(clips: int, frames: int, generator: Generator) -> Tensor:
    """(B,T) levels before the shift, logit-normal, the same for all frames of a clip."""
    return torch.sigmoid(torch.randn(clips, 1, generator=generator)).expand(-1, frames)


def mixed_levels(clips: int, chunks: Sequence[slice], mixture: Mixture, generator: Generator) -> Tensor:
    """(B,T) levels before the shift, the same for all frames of a chunk."""
    shares = torch.tensor(list(asdict(mixture).values()))
    ways = torch.multinomial(shares, clips, replacement=True, generator=generator)
    rows = [_chunk_levels(int(way), len(chunks), generator) for way in ways]
    lengths = torch.tensor([chunk.stop - chunk.start for chunk in chunks])
    return torch.stack(rows).repeat_interleave(lengths, dim=1)


def _chunk_levels(way: int, chunks: int, generator: Generator) -> Tensor:
    anchor = torch.sigmoid(torch.randn((), generator=generator))
    name = tuple(Mixture.__dataclass_fields__)[way]
    if name == "same":
        return anchor.expand(chunks)
    if name == "clean":
        return torch.cat([torch.zeros(chunks - 1), anchor[None]])
    place = chunks - 1 if name == "last_anchor" else int(torch.randint(chunks, (), generator=generator))
    before, after = torch.rand(chunks, generator=generator).split([place, chunks - place])
    # Sorted uniform numbers are a rising sequence drawn uniformly from all of them.
    below, above = (before * anchor).sort().values, (anchor + after[1:] * (1 - anchor)).sort().values
    return torch.cat([below, anchor[None], above])


def noised(latents: Tensor, sigma: Tensor, first_is_given: Tensor, generator: Generator) -> Noised:
    """Mix in noise.

    Args:
        latents: (B,C,T,H,W), clean.
        sigma: (B,T), on the CPU.
        first_is_given: (B,) bool, clips whose first frame stays clean.
        generator: on the CPU, for the noise.
    """
    sigma = sigma.clone()
    sigma[first_is_given, 0] = 0
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    sigma = sigma.to(latents.device)
    level = sigma[:, None, :, None, None]
    return Noised(torch.lerp(latents, noise, level), noise, sigma)
