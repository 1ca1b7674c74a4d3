# SPDX-License-Identifier: GPL-3.0-or-later
"""What the refiner keeps between its calls: keys and values of the sink, of the last frames and of the prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from .rotary import Rotary, rotate

KeysValues = tuple[Tensor, Tensor]


class LayerMemory:
    """Keys and values (B, heads, tokens, head_dim) of one layer.

    The sink's keys are kept before rotary embedding, because the sink moves along in front of the history; the
    history's are kept after it. The history is a ring over whole latent frames: attention does not care for the
    order of keys, so nothing is ever shifted.

    Attributes:
        text: of the prompt, filled at the layer's first call.
    """

    def __init__(self, history_frames: int, cells: int, stored_dtype: torch.dtype | None = None) -> None:
        """
        Args:
            history_frames: latent frames that are kept, beside the sink.
            cells: tokens of a latent frame.
            stored_dtype: of what is kept, such as float8_e4m3fn; None keeps the dtype that comes.
        """
        self._capacity, self._cells, self._dtype = history_frames * cells, cells, stored_dtype
        self._sink: KeysValues | None = None
        self._sink_at_place: Tensor | None = None
        self._history: KeysValues | None = None
        self._seen = 0  # tokens that ever entered the history
        self.text: KeysValues | None = None

    def keep_sink(self, keys: Tensor, values: Tensor) -> None:
        """Keys before rotary embedding."""
        dtype = self._dtype or keys.dtype
        self._sink = keys.to(dtype, copy=True), values.to(dtype, copy=True)

    def place_sink(self, rotary: Rotary) -> None:
        """Put the sink where these tables are."""
        self._sink_at_place = rotate(self._sink[0], rotary)

    def remember(self, keys: Tensor, values: Tensor) -> None:
        """Put frames behind the history, keys after rotary embedding; the oldest frames give way."""
        if self._capacity == 0:
            return
        if self._history is None:
            shape = (*keys.shape[:2], self._capacity, keys.shape[3])
            # Its end is never read before it is written.
            self._history = tuple(keys.new_empty(shape, dtype=self._dtype or keys.dtype) for _ in range(2))
        for kept, new in zip(self._history, (keys, values), strict=True):
            for start in range(0, new.shape[2], self._cells):
                place = (self._seen + start) % self._capacity
                kept[:, :, place : place + self._cells] = new[:, :, start : start + self._cells]
        self._seen += keys.shape[2]

    def seen_with(self, keys: Tensor, values: Tensor) -> KeysValues:
        """These keys (after rotary embedding) and values of active frames, and all that is kept before them."""
        if self._sink is None:
            return keys, values
        all_keys, all_values = (
            [keys, self._sink_at_place.to(keys.dtype)],
            [values, self._sink[1].to(keys.dtype)],
        )
        if self._seen:
            filled = min(self._seen, self._capacity)
            all_keys.append(self._history[0][:, :, :filled].to(keys.dtype))
            all_values.append(self._history[1][:, :, :filled].to(keys.dtype))
        return torch.cat(all_keys, dim=2), torch.cat(all_values, dim=2)
