# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks that are on the device only while they run: their weights come from the disk or from pinned host memory.

The rules, in words. A copy ends before its block computes: the computing stream waits for the copying one. A block's
memory is used again only behind its last kernel: the allocator is told which stream used it. While one block computes,
the next is under way, so two of them are on a GPU at a time; on a CPU, where there is nothing to overlap, one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Function that reads a tensor from the disk, and its dtype in memory.
Source = tuple[Callable[[], Tensor], torch.dtype]


class _Arriving(NamedTuple):
    tensors: dict[str, Tensor]
    copied: torch.cuda.Event | None


class StreamedBlocks(nn.ModuleList):
    """A ModuleList to be iterated over in order, whose blocks have weights while it is their turn.

    On a GPU the weights are read from the disk in the first pass and then stay in pinned host memory; on a CPU they
    are read from the mapped file in every pass, which keeps them in the system's cache as long as there is room.
    """

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        sources: list[Mapping[str, Source]],
        device: torch.device | str,
    ) -> None:
        """
        Args:
            blocks: on the meta device.
            sources: of each block's tensors by name.
        """
        super().__init__(blocks)
        self._sources, self._device = sources, torch.device(device)
        self._pinned: dict[int, dict[str, Tensor]] = {}
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None

    def __iter__(self) -> Iterator[nn.Module]:
        blocks = list(super().__iter__())
        arriving = self._fetch(0) if self._stream is not None else None
        for index, block in enumerate(blocks):
            arrived = arriving if arriving is not None else self._fetch(index)
            if self._stream is not None:
                arriving = self._fetch(index + 1) if index + 1 < len(blocks) else None
            self._hand_over(arrived)
            block.load_state_dict(arrived.tensors, assign=True)
            del arrived
            try:
                yield block
            finally:
                block.to("meta")

    def _fetch(self, index: int) -> _Arriving:
        if self._stream is None:
            return _Arriving(
                {name: read().to(dtype).contiguous() for name, (read, dtype) in self._sources[index].items()},
                None,
            )
        if index not in self._pinned:
            self._pinned[index] = {
                name: read().to(dtype).pin_memory() for name, (read, dtype) in self._sources[index].items()
            }
        with torch.cuda.stream(self._stream):
            tensors = {
                name: tensor.to(self._device, non_blocking=True)
                for name, tensor in self._pinned[index].items()
            }
            return _Arriving(tensors, self._stream.record_event())

    def _hand_over(self, arrived: _Arriving) -> None:
        if arrived.copied is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(arrived.copied)
            for tensor in arrived.tensors.values():
                tensor.record_stream(computing)
