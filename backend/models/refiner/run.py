# SPDX-License-Identifier: GPL-3.0-or-later
"""The refinement of one clip: its grid and prompt, and where the sink stands."""

from __future__ import annotations

import torch
from torch import Tensor

from ...protocol.camera_path import FPS
from .memory import LayerMemory
from .rotary import Rotary, rotary_tables
from .transformer import RefinerTransformer


class RefinerRun:
    """The refiner as `sampling.refine` wants it.

    Args:
        model: on its device.
        text: (1, L, caption_channels), the prompt's states from the text connector.
        grid: (height, width) of the clip in latent cells.
        window: latent frames that are seen beside the active ones; the first is the sink.
        stored_dtype: of remembered keys and values; None for the model's.
    """

    def __init__(
        self,
        model: RefinerTransformer,
        text: Tensor,
        grid: tuple[int, int],
        window: int,
        stored_dtype: torch.dtype | None = None,
    ) -> None:
        self._model, self._grid = model, grid
        weight = model.proj_in.weight
        self._device, self._history_frames = weight.device, max(window - 1, 0)
        self._text = model.project_text(text.to(weight))
        cells = grid[0] * grid[1]
        self._memory = [
            LayerMemory(self._history_frames, cells, stored_dtype) for _ in range(model.config.num_layers)
        ]
        self._remembered = 0
        self._rotary: Rotary | None = None

    def begin(self, sink: Tensor) -> None:
        """Remember the clip's first latent frame (B, C, 1, h, w), clean, which all others see."""
        if sink.shape[0] != self._text.shape[0]:
            self._text = self._text.expand(sink.shape[0], -1, -1)
        self._model(sink, 0.0, self._tables(range(1)), self._text, self._memory, keeps="sink")

    def place(self, frames: slice) -> None:
        """Make these latent frames the active ones; the sink moves to right before what is remembered."""
        self._rotary = self._tables(range(frames.start, frames.stop))
        place = self.sink_place(frames.start)
        for memory in self._memory:
            memory.place_sink(self._tables(range(place, place + 1)))

    def sink_place(self, start: int) -> int:
        """The latent frame that the sink stands for when the active ones begin at `start`."""
        return start - min(self._remembered, self._history_frames) - 1

    def velocity(self, latents: Tensor, sigma: float) -> Tensor:
        """Of the active frames (B, C, t, h, w) at noise level `sigma`."""
        return self._model(latents, sigma, self._rotary, self._text, self._memory)

    def remember(self, latents: Tensor) -> None:
        """Take the finished active frames into account from now on."""
        self._model(latents, 0.0, self._rotary, self._text, self._memory, keeps="history")
        self._remembered += latents.shape[2]

    def _tables(self, frames: range) -> Rotary:
        return rotary_tables(self._model.config, frames, *self._grid, FPS, self._device)
