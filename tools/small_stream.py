# SPDX-License-Identifier: GPL-3.0-or-later
"""A small streaming model of the released kind with random weights: student and causal decoder, chunk by chunk.

Its pictures mean nothing; time and memory behave over a clip's length as those of the released one do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLLTX2Video
from torch import Tensor

from backend.conditioning.camera import camera_tokens, chunk_plucker
from backend.models.stage1 import CarryPlan, Conditioning, Stage1Config, Stage1Transformer
from backend.models.vae import CausalDecoder
from backend.protocol import FPS, CameraPath
from backend.sampling import self_forcing
from backend.sampling.chunk_grid import chunk_grid

from .full_size_forward import random_model

CELL_PX = 32
CAPTION_CHANNELS, PROMPT_TOKENS = 64, 20
SPEED_M_S, TURN_DEG_S, TURN_PERIOD_S = 0.35, 4.0, 50.0


@dataclass(frozen=True)
class Sizes:
    """Of the student, a multiple of 32 wide, of the decoder's channels, and of a latent frame in cells (H, W)."""

    hidden_size: int
    decoder_channels: int
    cells: tuple[int, int]
    blocks: int = 4


def walk(frames: int, image_size: tuple[int, int]) -> CameraPath:
    """A level walk that turns gently to either side, `frames` samples long."""
    time_s = np.arange(frames) / FPS
    turn = np.radians(TURN_DEG_S) * np.sin(2 * np.pi * time_s / TURN_PERIOD_S + 0.7)
    yaw = np.cumsum(turn) / FPS
    zero, one = np.zeros(frames), np.ones(frames)
    right = np.stack([np.cos(yaw), np.sin(yaw), zero], axis=-1)
    forward = np.stack([-np.sin(yaw), np.cos(yaw), zero], axis=-1)
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], axis=-1)
    c2w[:, :3, 3] = np.cumsum(forward, axis=0) * SPEED_M_S / FPS + [0, 0, 1.6]
    width, height = image_size
    lens = np.stack([0.8 * width * one, 0.8 * width * one, width / 2 * one, height / 2 * one], axis=-1)
    return CameraPath(c2w, lens, image_size)


def stream(sizes: Sizes, frames: int) -> Iterator[tuple[slice, Tensor]]:
    """Chunks of latent frames and their pixels (1, 3, n, H, W), 0..1, of a walk that is `frames` = 24 k + 1 long."""
    torch.manual_seed(1)
    config = Stage1Config(
        num_layers=sizes.blocks,
        hidden_size=sizes.hidden_size,
        head_dim=32,
        num_cross_heads=sizes.hidden_size // 32,
        caption_channels=CAPTION_CHANNELS,
        softmax_in_bf16=False,
    )
    height, width = sizes.cells
    path = walk(frames, (CELL_PX * width, CELL_PX * height))
    chunks = chunk_grid((frames - 1) // 8 + 1)
    student = CameraStudent(random_model(config), path, chunks, sizes.cells)
    decoder, carry = CausalDecoder(_autoencoder(sizes.decoder_channels)), None
    latents = self_forcing.sample(
        student,
        self_forcing.chunk_noise((config.in_channels, height, width), 1, torch.float32, "cpu"),
        torch.randn(1, config.in_channels, 1, height, width),
        [step / 1000 for step in self_forcing.RELEASED_STEP_LIST],
        chunks,
    )
    for chunk, clean in zip(chunks, latents, strict=True):
        pixels, carry = decoder.decode_next(clean, carry)
        yield chunk, pixels


class CameraStudent:
    """Stage 1 as `self_forcing.sample` wants it; makes the camera's numbers for one chunk at a time."""

    def __init__(
        self, model: Stage1Transformer, path: CameraPath, chunks: Sequence[slice], cells: tuple[int, int]
    ) -> None:
        self._model, self._path, self._grid = model, path, (chunks[-1].stop, *cells)
        plan = CarryPlan(chunks[0].stop, chunks[-1].stop - chunks[-1].start)
        self._carry = model.empty_carry(plan, 1, math.prod(cells))
        prompt = torch.randn(1, 1, PROMPT_TOKENS, CAPTION_CHANNELS)
        with torch.no_grad():
            self._blocks = model.condition_blocks(prompt, torch.ones(1, PROMPT_TOKENS))
        self._chunk: slice | None = None

    def velocity(self, latents: Tensor, timesteps: Tensor, chunk: slice) -> Tensor:
        return self._model.denoise(latents, timesteps, self._conditioning(chunk), self._carry)

    def remember(self, latents: Tensor, chunk: slice) -> None:
        clean = torch.zeros(1, 1, latents.shape[2])
        self._model.denoise(latents, clean, self._conditioning(chunk), self._carry, save=True)

    def _conditioning(self, chunk: slice) -> Conditioning:
        if self._chunk != chunk:
            camera = camera_tokens(self._path, self._grid, chunk)[None]
            plucker = chunk_plucker(self._path, self._grid, chunk)[None]
            grid = (chunk.stop - chunk.start, *self._grid[1:])
            self._seen = self._model.condition_frames(
                self._blocks, camera, plucker, grid, first_frame=chunk.start
            )
            self._chunk = chunk
        return self._seen


def _autoencoder(channels: int) -> AutoencoderKLLTX2Video:
    """The released decoder's structure with few channels and layers, and an encoder that nobody uses."""
    return AutoencoderKLLTX2Video(
        latent_channels=128,
        block_out_channels=(8, 16, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_block_out_channels=(channels, 2 * channels, 4 * channels),
        decoder_layers_per_block=(1, 2, 1, 2),
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    ).eval()
