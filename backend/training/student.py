# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1 as the streaming sampler asks for it: one chunk in a call, with a carry from the chunks before it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.stage1 import CarryPlan, Conditioning, Stage1Transformer
from .batch import Batch


class Student:
    """The clips of a batch in the making; see `sampling.self_forcing.Student`."""

    def __init__(self, model: Stage1Transformer, batch: Batch, plan: CarryPlan) -> None:
        height, width = batch.latents.shape[3:]
        self._model, self._batch = model, batch
        self._blocks = model.condition_blocks(batch.text, batch.text_mask)
        self._carry = model.empty_carry(plan, len(batch), height * width)

    def velocity(self, latents: Tensor, timesteps: Tensor, chunk: slice) -> Tensor:
        """fp32; with gradients where they are recorded."""
        inputs = self._batch.inputs(latents, chunk)
        return self._model.denoise(inputs, timesteps, self._at(chunk), self._carry).float()

    @torch.no_grad()
    def remember(self, latents: Tensor, chunk: slice) -> None:
        timesteps = torch.zeros(len(latents), 1, latents.shape[2], device=latents.device)
        inputs = self._batch.inputs(latents, chunk)
        self._model.denoise(inputs, timesteps, self._at(chunk), self._carry, save=True)

    def _at(self, chunk: slice) -> Conditioning:
        grid = (chunk.stop - chunk.start, *self._batch.latents.shape[3:])
        camera, plucker = self._batch.camera[:, chunk], self._batch.plucker[:, :, chunk]
        return self._model.condition_frames(self._blocks, camera, plucker, grid, first_frame=chunk.start)
