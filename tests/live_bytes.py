# SPDX-License-Identifier: GPL-3.0-or-later
"""How many bytes of tensors live at the same time on a device, which may be the meta device."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts what is made while it is on, each storage once, until the last tensor of it is gone.

    Args:
        device: whose memory counts.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        for tensor in tree_leaves((arguments, keywords)):
            if isinstance(tensor, torch.Tensor):
                self._know(tensor.untyped_storage(), 0)  # what was there before does not count
        result = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage) -> None:
        if storage.device.type == self._device:
            self._know(storage, storage.nbytes())
            self.peak = max(self.peak, self.now)

    def _know(self, storage, size: int) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self.now += size
            # Another storage may get the place of one that is gone.
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
