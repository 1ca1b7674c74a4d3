# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call of the transformer is told beside latents and timesteps: the prompt, and where its frames are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from kernels.camera_gdn import rays_at

from .context import FrameShare
from .ucpe import RayTransforms


@dataclass(frozen=True)
class TextKeys:
    """Keys and values of the prompt for one block, (B,h,L,d), and which are valid (B,1,1,L; None if all)."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class BlockConditioning:
    """The prompt's keys for one block, and its map (C,48), (C,) from Plücker numbers to the residual stream."""

    text: TextKeys
    plucker_map: tuple[Tensor, Tensor] | None


@dataclass(frozen=True)
class Conditioning:
    """Everything that stays the same over the steps of a run, for all of its frames or for one chunk of them.

    Attributes:
        grid: (T, H, W) in latent cells.
        rotary: main rotary table (T,S,head_dim/2) complex64, at the frames' absolute positions in the clip.
        rays: the camera branch's transforms; None leaves the branch out.
        plucker: (B,T,S,48) ray numbers; None leaves them out.
        chunks: slices of T; a frame sees its own chunk whole, of later ones nothing.
        blocks: one entry per block, the same for all chunks of a clip.
        context: where the clip's other frames are, if these are one process's part of them; T and chunks are then of
            this part.
    """

    grid: tuple[int, int, int]
    rotary: Tensor
    rays: RayTransforms | None
    plucker: Tensor | None
    chunks: tuple[slice, ...]
    blocks: list[BlockConditioning]
    context: FrameShare | None = None

    def first_chunks(self, count: int) -> Conditioning:
        """The same for the first `count` chunks alone."""
        chunks = self.chunks[:count]
        frames = chunks[-1].stop
        rays, plucker = self.rays, self.plucker
        if rays is not None:
            rays = RayTransforms(*rays_at(rays, slice(0, frames)))
        if plucker is not None:
            plucker = plucker[:, :frames]
        grid = (frames, *self.grid[1:])
        return replace(
            self, grid=grid, rotary=self.rotary[:frames], rays=rays, plucker=plucker, chunks=chunks
        )


def chunk_slices(starts: tuple[int, ...], frames: int) -> tuple[slice, ...]:
    """Chunks that begin at `starts` (the first at 0) and together are `frames` long.

    Raises:
        ValueError: the starts do not begin with 0 or do not rise below `frames`.
    """
    ends = (*starts[1:], frames)
    if not starts or starts[0] != 0 or any(start >= end for start, end in zip(starts, ends, strict=True)):
        raise ValueError(f"Chunks must begin at 0 and rise below {frames} frames, not at {starts}.")
    return tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))
