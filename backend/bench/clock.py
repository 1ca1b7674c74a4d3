# SPDX-License-Identifier: GPL-3.0-or-later
"""Seconds and memory of a call: CUDA events on a GPU, processor time on a CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from ..memory import memory_mb

# Larger than the L2 cache of any card, so that nothing is found there that a model would have to fetch.
_FLUSHED_BYTES = 256 << 20
_MOST_REPEATS = 50


class Clock:
    """
    Args:
        device: where calls work.
        quick: measure each call for a tenth of the time.
    """

    def __init__(self, device: torch.device, quick: bool = False) -> None:
        self._device, self._is_gpu = device, device.type == "cuda"
        self._least_s = 0.05 if quick else 0.5
        if self._is_gpu:
            self._flushed = torch.empty(_FLUSHED_BYTES, dtype=torch.uint8, device=device)

    @torch.no_grad()
    def seconds(self, call: Callable[[], object]) -> float:
        """The median of at least three runs, after one that warms up; of a CPU all threads' time together."""
        call()
        times: list[float] = []
        while len(times) < 3 or (sum(times) < self._least_s and len(times) < _MOST_REPEATS):
            times.append(self._once(call))
        return statistics.median(times)

    @torch.no_grad()
    def once(self, call: Callable[[], object]) -> float:
        """One run alone, for calls that take seconds or cannot be repeated."""
        return self._once(call)

    def forget_peak(self) -> None:
        if self._is_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)

    def memory_gb(self) -> float:
        """On a GPU the most that was allocated since `forget_peak`; on a CPU what the process holds now. 1e9 bytes."""
        if self._is_gpu:
            return (torch.cuda.max_memory_allocated(self._device) - _FLUSHED_BYTES) / 1e9
        return memory_mb() * (1 << 20) / 1e9

    def _once(self, call: Callable[[], object]) -> float:
        if not self._is_gpu:
            started = time.process_time()
            call()
            return time.process_time() - started
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flushed.zero_()
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3
