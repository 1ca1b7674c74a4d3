# SPDX-License-Identifier: GPL-3.0-or-later
"""What the recipes of stage 1 train on: clips as latents, with camera and prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips of one size, fp32; a single clip is a batch of one.

    Attributes:
        latents: (B,C,T,H,W), clean.
        camera: (B,T,20), as `camera_tokens` makes them.
        plucker: (B,48,T,H,W), as `chunk_plucker` makes them.
        text: (B,1,L,C_caption) text encoder states.
        text_mask: (B,L), 1 for tokens that count.
        snapshots: (B,N,C,T,H,W), states of a teacher's trajectories at N noise levels, the last one clean.
        channels: (B,C_more,T,H,W), what the model reads behind the noisy latents.
        weights: (B,1,T,H,W), how much the error of a cell counts; 1 without.
    """

    latents: Tensor
    camera: Tensor
    plucker: Tensor
    text: Tensor
    text_mask: Tensor
    snapshots: Tensor | None = None
    channels: Tensor | None = None
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def frames(self) -> int:
        """Latent frames."""
        return self.latents.shape[2]

    def inputs(self, noisy: Tensor, frames: slice = slice(None)) -> Tensor:
        """What the model reads for noisy latents (B,C,t,H,W) of these frames."""
        return noisy if self.channels is None else torch.cat([noisy, self.channels[:, :, frames]], dim=1)

    def weighed(self, squares: Tensor, frames: slice = slice(None)) -> Tensor:
        """Squared errors (B,C,t,H,W) of these frames, as they count."""
        return squares if self.weights is None else squares * self.weights[:, :, frames]

    def tensors(self) -> dict[str, Tensor]:
        """By name, without what is not there."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in named.items() if value is not None}

    def to(self, device: torch.device | str) -> Batch:
        return Batch(**{name: value.to(device) for name, value in self.tensors().items()})

    @classmethod
    def joined(cls, clips: Sequence[Batch]) -> Batch:
        """Clips of one size after each other.

        Raises:
            ValueError: they differ in size.
        """
        named = [clip.tensors() for clip in clips]
        for name, value in named[0].items():
            other = next((row for row in named if row[name].shape[1:] != value.shape[1:]), None)
            if other is not None:
                raise ValueError(
                    f"Clips of different sizes cannot be trained together ({name} {tuple(value.shape[1:])} and "
                    f"{tuple(other[name].shape[1:])}); set batch_clips to 1 or sort them into data sets by size."
                )
        return cls(**{name: torch.cat([row[name] for row in named]) for name in named[0]})


class ClipSource(Protocol):
    """Clips in a fixed order."""

    def __len__(self) -> int: ...

    def clip(self, index: int) -> Batch:
        """One clip, on the CPU."""
        ...

    def no_text(self) -> tuple[Tensor, Tensor]:
        """States (1,1,L,C_caption) and mask (1,L) of the empty prompt."""
        ...

    def pictures(self, latents: Tensor) -> Tensor:
        """Latents (C,T,H,W) -> frames (F,3,h,w), 0..1, for a sheet."""
        ...


class ClipSamples:
    """The clips of a source as the loop asks for them, on the device that trains."""

    def __init__(self, source: ClipSource, device: torch.device | str = "cpu") -> None:
        self._source, self._device = source, device

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, indices: Sequence[int], generator: Generator) -> Batch:
        return Batch.joined([self._source.clip(index) for index in indices]).to(self._device)

    def tensors(self, batch: Batch) -> dict[str, Tensor]:
        return batch.tensors()
