# SPDX-License-Identifier: GPL-3.0-or-later
"""A closed-form linear video codec with the latent layout of the LTX-2 video autoencoder.

A Karhunen-Loeve transform in two stages: 8x8 pixel patches to coefficients, then the coefficients of the
eight frames of a latent step to 128 channels. It is a linear autoencoder fitted by two eigenvalue problems,
not a neural one. The first latent holds frame 0 alone, every further latent eight frames, so a clip of
8k + 1 frames has k + 1 latents.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .frame_decoder import DecoderCarry

CHANNELS = 128
PATCH = 8
STEP = 8
PATCH_VALUES = 3 * PATCH * PATCH
KEPT_PER_FRAME = 64


class LinearCodec(nn.Module):
    """Orthonormal analysis and synthesis; latents are divided by the square root of their spread.

    Buffers:
        patch_mean: (192,), mean patch, RGB 0..1.
        spatial_basis: (128, 192), orthonormal rows, strongest first.
        temporal_basis: (128, 512), orthonormal rows over (frame, the first 64 spatial coefficients).
        still_scale, motion_scale: (128,), latents = coefficients * scale, for frame 0 and for the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("patch_mean", torch.zeros(PATCH_VALUES))
        self.register_buffer("spatial_basis", torch.zeros(CHANNELS, PATCH_VALUES))
        self.register_buffer("temporal_basis", torch.zeros(CHANNELS, STEP * KEPT_PER_FRAME))
        self.register_buffer("still_scale", torch.ones(CHANNELS))
        self.register_buffer("motion_scale", torch.ones(CHANNELS))

    @classmethod
    def load(cls, path: Path) -> LinearCodec:
        """Read the codec's safetensors file; every buffer must be there, and nothing else."""
        codec = cls()
        codec.load_state_dict(load_file(path))
        return codec.eval()

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 8k + 1, H, W), RGB 0..1, H and W multiples of 8 -> latents (B, 128, k + 1, H/8, W/8).

        Raises:
            ValueError: the clip has another number of frames, or a side is not a multiple of 8.
        """
        if frames.shape[2] % STEP != 1:
            raise ValueError(
                f"The codec takes 8k + 1 frames, not {frames.shape[2]}; cut or lengthen the clip."
            )
        still, moving = frames.split([1, frames.shape[2] - 1], dim=2)
        patches = to_patches(still) - self.patch_mean
        first = (patches @ self.spatial_basis.T) * self.still_scale
        return torch.cat([first.permute(0, 4, 1, 2, 3), self.encode_next(moving)], dim=2)

    def encode_next(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 8k, H, W) behind the first of a clip -> their latents (B, 128, k, H/8, W/8)."""
        patches = to_patches(frames) - self.patch_mean
        coefficients = patches @ self.spatial_basis[:KEPT_PER_FRAME].T
        by_step = coefficients.unflatten(1, (-1, STEP)).movedim(2, -2).flatten(-2)
        return ((by_step @ self.temporal_basis.T) * self.motion_scale).permute(0, 4, 1, 2, 3)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, 128, k + 1, h, w) -> frames (B, 3, 8k + 1, 8h, 8w), RGB, not clamped."""
        return self.decode_next(latents, None)[0]

    def decode_difference(self, difference: Tensor) -> Tensor:
        """What a difference of two latents (B, 128, k + 1, h, w) changes in the decoded frames."""
        return self.decode_difference_next(difference, None)[0]

    def decode_next(self, latents: Tensor, carry: DecoderCarry | None) -> tuple[Tensor, DecoderCarry]:
        """See FrameDecoder. The codec remembers nothing but that the clip has begun."""
        return self._synthesize(latents, begins=carry is None, mean=self.patch_mean), ()

    def decode_difference_next(
        self, difference: Tensor, carry: DecoderCarry | None
    ) -> tuple[Tensor, DecoderCarry]:
        """What the next difference of two latents changes in the decoded frames; as `decode_next`."""
        return self._synthesize(difference, begins=carry is None, mean=torch.zeros_like(self.patch_mean)), ()

    def _synthesize(self, latents: Tensor, begins: bool, mean: Tensor) -> Tensor:
        # One latent a product: products of more rows may round differently.
        steps = list(latents.permute(0, 2, 3, 4, 1).unbind(1))
        still = [((steps.pop(0) / self.still_scale) @ self.spatial_basis)[:, None]] if begins else []
        return _from_patches(torch.cat(still + [self._moving(step) for step in steps], dim=1) + mean)

    def _moving(self, step: Tensor) -> Tensor:
        """Channels-last latents (B, h, w, 128) of one step -> patches (B, 8, h, w, 192)."""
        coefficients = (step / self.motion_scale) @ self.temporal_basis
        by_frame = coefficients.unflatten(-1, (STEP, KEPT_PER_FRAME)).movedim(-2, 1)
        return by_frame @ self.spatial_basis[:KEPT_PER_FRAME]


def to_patches(frames: Tensor) -> Tensor:
    """(B, 3, F, H, W) -> (B, F, H/8, W/8, 192), values ordered (channel, row, column).

    Raises:
        ValueError: a side is not a multiple of 8.
    """
    batch, _, length, height, width = frames.shape
    if height % PATCH or width % PATCH:
        raise ValueError(f"The codec takes sides that are multiples of 8, not {width} x {height}.")
    grid = frames.reshape(batch, 3, length, height // PATCH, PATCH, width // PATCH, PATCH)
    return grid.permute(0, 2, 3, 5, 1, 4, 6).flatten(-3)


def _from_patches(patches: Tensor) -> Tensor:
    """The inverse of `to_patches`."""
    batch, length, rows, columns, _ = patches.shape
    grid = patches.reshape(batch, length, rows, columns, 3, PATCH, PATCH)
    return grid.permute(0, 4, 1, 2, 5, 3, 6).reshape(batch, 3, length, rows * PATCH, columns * PATCH)
