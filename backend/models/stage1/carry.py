# SPDX-License-Identifier: GPL-3.0-or-later
"""What the blocks carry from one chunk of a clip to the next, in memory that is allocated once.

A chunk is denoised in several passes that only read the carry. A last pass over its clean latents writes it. Of the
Gated DeltaNet that is the scan's state and the last inputs of its key convolutions, of softmax attention the keys
and values of a window of chunks, of the feed-forward the last frame before its temporal convolution. Keys keep the
rotation and the ray coordinates of their own place in the clip.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class CarryPlan:
    """Which chunks a clip consists of, and how many of them softmax attention still sees.

    Attributes:
        first_frames: latent frames of chunk 0.
        chunk_frames: latent frames of every other chunk.
        window: chunks before the current one that stay visible; with `sink`, chunk 0 is one of them and stays for
            ever.
        sink: whether chunk 0 stays.
    """

    first_frames: int
    chunk_frames: int
    window: int = 2
    sink: bool = True

    def __post_init__(self) -> None:
        if not self.first_frames >= self.chunk_frames >= 1 or self.window < 1:
            raise ValueError(
                f"Chunks of {self.first_frames}, {self.chunk_frames}, ... frames and a window of {self.window} cannot "
                "be carried; chunk 0 must be the longest, and the window at least 1."
            )

    @classmethod
    def unlimited(cls, first_frames: int, chunk_frames: int, chunks: int) -> CarryPlan:
        """A window that forgets nothing of a clip of so many chunks."""
        return cls(first_frames, chunk_frames, window=max(1, chunks - 1), sink=False)

    @property
    def places(self) -> int:
        """Places for chunks, the current one included; place 0 is the one that chunk 0 fits."""
        return self.window + 1

    def frames_of(self, chunk: int) -> slice:
        """Where a chunk lies in a buffer of `buffer_frames`; what lay there has left the window."""
        if not self.sink:
            place = chunk % self.places
        else:
            place = 0 if chunk == 0 else 1 + (chunk - 1) % self.window
        end = self.first_frames + place * self.chunk_frames
        return slice(end - (self.chunk_frames if chunk else self.first_frames), end)

    def frames_seen(self, chunk: int) -> slice:
        """The part of the buffer that holds `chunk` and its window, in one piece."""
        sees_first = self.sink or chunk < self.places
        start = 0 if sees_first else self.first_frames - self.chunk_frames
        return slice(start, self.first_frames + min(chunk, self.window) * self.chunk_frames)

    @property
    def buffer_frames(self) -> int:
        return self.first_frames + self.window * self.chunk_frames


class KeyWindow:
    """Keys and values (B,h,N,D) of the chunks in the window, in one buffer, with a place for the current chunk.

    Attention does not mind the order of keys, so places are used in turn and nothing is moved. A chunk shorter than
    place 0 lies at its end, so that the used part of the buffer stays in one piece.

    Args:
        plan: which chunks there are and how long they stay.
        shape: (B, h, cells of a frame, D).
    """

    def __init__(
        self,
        plan: CarryPlan,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        batch, heads, self._cells, width = shape
        tokens = plan.buffer_frames * self._cells
        self._plan, self._chunk = plan, 0
        self._keys, self._values = (
            torch.empty(batch, heads, tokens, width, dtype=dtype, device=device) for _ in range(2)
        )

    def joined(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Window and current chunk; keys, values (B,h,n,D) of the current chunk.

        Without gradients the current chunk is written to its place, which holds nothing that anybody still sees.
        """
        if torch.is_grad_enabled():
            kept = self.kept()
            return torch.cat([kept[0], keys], dim=2), torch.cat([kept[1], values], dim=2)
        self._write(keys, values)
        seen = self._tokens(self._plan.frames_seen(self._chunk))
        return self._keys[:, :, seen], self._values[:, :, seen]

    def keep(self, keys: Tensor, values: Tensor) -> None:
        """The current chunk becomes one of the window, and the next one is current."""
        self._write(keys.detach(), values.detach())
        self._chunk += 1

    def kept(self) -> tuple[Tensor, Tensor]:
        """Copies of the window's keys and values, without the current chunk."""
        own = self._tokens(self._plan.frames_of(self._chunk))
        seen = self._tokens(self._plan.frames_seen(self._chunk))
        keys, values = (
            torch.cat([buffer[:, :, seen.start : own.start], buffer[:, :, own.stop : seen.stop]], dim=2)
            for buffer in (self._keys, self._values)
        )
        return keys, values

    def _write(self, keys: Tensor, values: Tensor) -> None:
        own = self._tokens(self._plan.frames_of(self._chunk))
        self._keys[:, :, own], self._values[:, :, own] = keys, values

    def _tokens(self, frames: slice) -> slice:
        return slice(frames.start * self._cells, frames.stop * self._cells)


def read(tensor: Tensor) -> Tensor:
    """A part of the carry for use in a pass; a copy where gradients are recorded, which outlive the next save."""
    return tensor.clone() if torch.is_grad_enabled() else tensor


@dataclass
class GatedDeltaCarry:
    """Of a Gated DeltaNet block; zeros before chunk 0.

    Attributes:
        main: state (B,h,D,D) fp32, key axis first.
        normalizer: state (B,h,D,1) fp32 of the denominator.
        camera: state (B,h,D,D) fp32 of the camera branch.
        key_tail, camera_key_tail: (B,taps - 1,S,C), the last inputs of the key convolutions.
    """

    main: Tensor
    normalizer: Tensor
    camera: Tensor
    key_tail: Tensor
    camera_key_tail: Tensor


@dataclass
class SoftmaxCarry:
    """Of a softmax block: one window for each branch."""

    main: KeyWindow
    camera: KeyWindow


@dataclass
class BlockCarry:
    """Of one block; `feed_forward_tail` (B,1,S,C) is the last frame before the temporal convolution."""

    attention: GatedDeltaCarry | SoftmaxCarry
    feed_forward_tail: Tensor


@dataclass
class Carry:
    """Of all blocks. `frames` latent frames of the clip have been written to it."""

    blocks: list[BlockCarry]
    plan: CarryPlan
    frames: int = 0

    def check(self, frames: int, chunks: int) -> None:
        """Refuse anything but the one next chunk.

        Raises:
            ValueError: several chunks, or a chunk of the wrong length.
        """
        expected = self.plan.chunk_frames if self.frames else self.plan.first_frames
        if chunks != 1 or frames != expected:
            raise ValueError(
                f"With a carry of {self.frames} frames the next call is one chunk of {expected} frames, "
                f"not {frames} frames in {chunks} chunks."
            )

    def tensors(self) -> dict[str, Tensor]:
        """Everything that later chunks will see, by name."""
        named = {}
        for index, block in enumerate(self.blocks):
            named[f"{index}.feed_forward_tail"] = block.feed_forward_tail
            for field in fields(block.attention):
                value = getattr(block.attention, field.name)
                if isinstance(value, KeyWindow):
                    named[f"{index}.{field.name}.keys"], named[f"{index}.{field.name}.values"] = value.kept()
                else:
                    named[f"{index}.{field.name}"] = value
        return named
