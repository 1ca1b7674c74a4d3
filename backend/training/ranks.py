# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of a step this process does: one replica of several, and within it one stretch of the frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

from ..models.stage1.context import ContextGroup


@dataclass(frozen=True)
class Ranks:
    """A process among others; the default is a process by itself.

    Attributes:
        replica: which of the `replicas` this process belongs to; each sees clips of its own.
        context: the processes that share the frames of this replica's clips; None if it has them all.
        is_first: whether this process writes the files.
    """

    replica: int = 0
    replicas: int = 1
    context: ContextGroup | None = None
    is_first: bool = True

    def mean(self, value: float) -> float:
        """Of all processes; every one has to ask."""
        if not dist.is_initialized():
            return value
        total = torch.tensor(value, dtype=torch.float64)
        if dist.get_backend() == "nccl":
            total = total.float().cuda()
        dist.all_reduce(total)
        return float(total) / dist.get_world_size()


ALONE = Ranks()
