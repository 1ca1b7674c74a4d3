# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running job tells the world: events, time left, heartbeat, log."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from .protocol import JobFolder

HEARTBEAT_S = 10.0


class Cancelled(Exception):
    """Somebody asked for this job to be stopped."""


class Stopped(Exception):
    """The worker itself has to stop."""


class Progress:
    """Reports one job and stops it when asked; the only writer of its `events.jsonl` and `log.txt`.

    Args:
        job: the job, whose lock the caller holds.
        stop: set when the worker has to stop.
        listener: called with each progress event, for a line on a terminal.
    """

    def __init__(
        self,
        job: JobFolder,
        stop: threading.Event,
        listener: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._job = job
        self._events = job.events
        self._stop = stop
        self._listener = listener
        self._writing = threading.Lock()
        self._costs: dict[str, float] = {}
        self._started = 0.0
        self._stage = ""
        self._stage_started = 0.0
        self.stage_durations_s: dict[str, float] = {}

    def plan(self, costs: dict[str, float]) -> None:
        """Stages to come, in order, with their expected cost in any common unit; the clock starts here."""
        self._costs = dict(costs)
        self._started = time.monotonic()

    def step(self, stage: str, step: int, steps: int) -> None:
        """`step` of `steps` of a stage are finished; the first call of a stage has step 0.

        Raises:
            Cancelled, Stopped: as `check`.
        """
        now = time.monotonic()
        if stage != self._stage:
            self.end_stage()
            self._stage, self._stage_started = stage, now
        event = {
            "stage": stage,
            "step": step,
            "steps": steps,
            "seconds_left": self._seconds_left(now, step / steps),
            "memory_mb": memory_mb(),
        }
        self.event("progress", **event)
        if self._listener:
            self._listener(event)
        self.check()

    def end_stage(self) -> None:
        """Close the stage in progress, so that its duration is known."""
        if self._stage:
            self.stage_durations_s[self._stage] = time.monotonic() - self._stage_started
            self._stage = ""

    def check(self) -> None:
        """Go on, or leave.

        Raises:
            Cancelled: the job folder holds a `cancel` file.
            Stopped: the worker has to stop.
        """
        if self._stop.is_set():
            raise Stopped
        if self._job.cancel_requested():
            raise Cancelled

    def warn(self, message: str) -> None:
        self.event("warning", message=message)
        self.log(f"Warning: {message}")

    def event(self, kind: str, **values: Any) -> None:
        with self._writing:
            self._events.append(kind, **values)

    def log(self, message: str) -> None:
        with self._writing, open(self._job.log_txt, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

    def heartbeat(self) -> Heartbeat:
        """A context in which the job shows that its worker lives, even during a long step."""
        return Heartbeat(lambda: self.event("heartbeat", memory_mb=memory_mb()), HEARTBEAT_S)

    def _seconds_left(self, now: float, fraction: float) -> float | None:
        if self._stage not in self._costs:
            return None
        stages = list(self._costs)
        index = stages.index(self._stage)
        here = self._costs[self._stage]
        done = sum(self._costs[stage] for stage in stages[:index]) + here * fraction
        if done <= 0:
            return None
        later = sum(self._costs[stage] for stage in stages[index + 1 :])
        overall_pace = (now - self._started) / done
        # The stage's own pace is the better guide for its rest, as soon as there is one.
        own_pace = (now - self._stage_started) / (here * fraction) if fraction else overall_pace
        return round(own_pace * here * (1 - fraction) + overall_pace * later, 1)


class Heartbeat:
    """Calls `beat` every `interval_s` from a thread, until the context ends."""

    def __init__(self, beat: Callable[[], None], interval_s: float) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")

    def _run(self) -> None:
        while not self._end.wait(self._interval_s):
            try:
                self._beat()
            except OSError as error:
                # A full disk or a vanished folder ends the job in the main thread, which has the words for it.
                print(f"In the background: {error}.", file=sys.stderr)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def memory_mb() -> int:
    """Resident memory of this process in MiB; the peak so far where the system tells no more (macOS)."""
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    if os.name == "nt":
        return _windows_memory_mb()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20


def _windows_memory_mb() -> int:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        _fields_ = [("cb", wintypes.DWORD), ("page_faults", wintypes.DWORD)] + [
            (name, ctypes.c_size_t)
            for name in (
                "peak_working_set",
                "working_set",
                "peak_paged_pool",
                "paged_pool",
                "peak_nonpaged_pool",
                "nonpaged_pool",
                "pagefile",
                "peak_pagefile",
            )
        ]

    counters = Counters(cb=ctypes.sizeof(Counters))
    kernel = ctypes.WinDLL("kernel32")
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.K32GetProcessMemoryInfo(
        wintypes.HANDLE(kernel.GetCurrentProcess()), ctypes.byref(counters), counters.cb
    )
    return counters.working_set >> 20
