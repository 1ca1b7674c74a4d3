# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoding of whole clips by a decoder that looks both ways in time, in tiles that overlap.

A tile of latents j, j + 1, ... is decoded as if a clip began with it, so its first latent gives one frame, and that is
frame 8 j of the clip, which the tile before has too. Dropping just this frame keeps the tiles aligned. (The library
drops the last one instead, and from frame 97 on its clips lag a frame behind their camera.)
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ...protocol.limits import TEMPORAL_STRIDE
from .latent_units import denormalized

# As the released code decodes: tiles of 13 latents every 8, 32 frames of each shared with the next one.
TILE_LATENTS, TILE_STRIDE = 13, 8
# Sides in pixels of spatial tiles, where a whole frame does not fit: 512 every 448.
TILE_PX, TILE_STRIDE_PX = 512, 448


class TiledDecoder:
    """Runs the decoder of a diffusers AutoencoderKLLTX2Video that was trained to look both ways.

    Args:
        vae: with its decoder, on any device.
        spatial_tiles: decode frames in parts too, which takes a third of the memory and a fifth more work.
    """

    def __init__(self, vae: nn.Module, spatial_tiles: bool = False) -> None:
        self._vae = vae
        if spatial_tiles:
            # Tiles in time are ours.
            vae.enable_tiling(
                tile_sample_min_height=TILE_PX,
                tile_sample_min_width=TILE_PX,
                tile_sample_stride_height=TILE_STRIDE_PX,
                tile_sample_stride_width=TILE_STRIDE_PX,
            )
            vae.use_framewise_decoding = False

    @torch.no_grad()
    def decode(self, latents: Tensor, first_frame: int = 0) -> Iterator[Tensor]:
        """Frames (B, 3, n, 32 h, 32 w) fp32, RGB 0..1, not clamped, a stretch of the clip after the other.

        Args:
            latents: (B, C, T, h, w) of the whole clip, normalised.
            first_frame: tiles that only hold earlier frames are not decoded; what comes begins here.
        """
        tiles = tile_starts(latents.shape[2])
        last = TEMPORAL_STRIDE * (latents.shape[2] - 1)
        shared: Tensor | None = None  # frames that the last tile has in common with the next one
        for index, start in enumerate(tiles):
            following = tiles[index + 1] if index + 1 < len(tiles) else None
            # Of frame `own` on this tile is shown; up to `end` it is alone or blended into.
            begins = TEMPORAL_STRIDE * start + 1 if start else 0
            end = last + 1 if following is None else TEMPORAL_STRIDE * following + 1
            reaches = min(TEMPORAL_STRIDE * (start + TILE_LATENTS - 1), last) + 1
            if reaches <= first_frame:
                continue
            frames = self._decode(latents[:, :, start : start + TILE_LATENTS])
            if start:
                frames = frames[:, :, 1:]
            if shared is not None:
                frames = _blended(shared, frames)
            shared = None if following is None else frames[:, :, end - begins :]
            shown = frames[:, :, max(first_frame - begins, 0) : end - begins]
            if shown.shape[2]:
                yield shown

    def _decode(self, latents: Tensor) -> Tensor:
        weight = self._vae.decoder.conv_in.conv.weight
        pixels = self._vae.decode(denormalized(latents.float(), self._vae).to(weight)).sample
        return (pixels.float() + 1) / 2


def tile_starts(latents: int) -> list[int]:
    """The first latent of each tile; the last tile reaches the end of the clip."""
    starts = [0]
    while starts[-1] + TILE_LATENTS < latents:
        starts.append(starts[-1] + TILE_STRIDE)
    return starts


def _blended(before: Tensor, frames: Tensor) -> Tensor:
    """Frames whose first ones go over from those of the tile before, linearly."""
    count = min(before.shape[2], frames.shape[2])
    weight = torch.arange(count, device=frames.device).view(1, 1, -1, 1, 1) / before.shape[2]
    mixed = torch.lerp(before[:, :, :count], frames[:, :, :count], weight)
    return torch.cat([mixed, frames[:, :, count:]], dim=2)
