# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running job tells the world: events, time left, heartbeat, log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from .memory import memory_mb
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
        self._counting = threading.Lock()
        self._costs: dict[str, float] = {}
        self._done: dict[str, float] = {}
        self._begun: dict[str, tuple[float, float]] = {}
        self._started_s = 0.0
        self.stage_durations_s: dict[str, float] = {}

    def plan(self, costs: dict[str, float]) -> None:
        """Stages to come, in order, with their expected cost in any common unit; the clock starts here."""
        self._costs = dict(costs)
        self._done = dict.fromkeys(costs, 0.0)
        self._started_s = time.monotonic()

    def step(self, stage: str, step: int, steps: int) -> None:
        """`step` of `steps` of a planned stage are finished; its first call says how much was there before.

        Stages may overlap and report from several threads. The world hears of the first unfinished one; what later
        ones have done already counts when their turn comes.

        Raises:
            Cancelled, Stopped: as `check`.
        """
        now_s = time.monotonic()
        with self._counting:
            self._done[stage] = step / steps
            began_s, _ = self._begun.setdefault(stage, (now_s, step / steps))
            if step == steps:
                self.stage_durations_s[stage] = now_s - began_s
                # What runs ahead of its turn is measured from its turn on, when it has the machine for itself.
                ahead = (name for name in self._begun if self._done[name] < 1)
                self._begun |= {name: (now_s, self._done[name]) for name in ahead}
            stages = list(self._costs)
            is_its_turn = all(self._done[earlier] >= 1 for earlier in stages[: stages.index(stage)])
            seconds_left = self._seconds_left(stage, now_s)
        if is_its_turn:
            event = {
                "stage": stage,
                "step": step,
                "steps": steps,
                "seconds_left": seconds_left,
                "memory_mb": memory_mb(),
            }
            self.event("progress", **event)
            if self._listener:
                self._listener(event)
        self.check()

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

    def note(self, message: str) -> None:
        """What the user may want to know and need not do anything about."""
        self.event("note", message=message)
        self.log(message)

    def event(self, kind: str, **values: Any) -> None:
        with self._writing:
            self._events.append(kind, **values)

    def log(self, message: str) -> None:
        with self._writing, open(self._job.log_txt, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

    def heartbeat(self) -> Repeated:
        """A context in which the job shows that its worker lives, even during a long step."""
        return Repeated(lambda: self.event("heartbeat", memory_mb=memory_mb()), HEARTBEAT_S)

    def _seconds_left(self, stage: str, now_s: float) -> float | None:
        """From this stage's own pace, and for what follows from the pace of all that was done in this run."""
        made = sum(
            self._costs[name] * (self._done[name] - before) for name, (_, before) in self._begun.items()
        )
        if made <= 0:
            return None
        pace = (now_s - self._started_s) / made
        later = list(self._costs)[list(self._costs).index(stage) + 1 :]
        cost, done, (began_s, before) = self._costs[stage], self._done[stage], self._begun[stage]
        own_pace = (now_s - began_s) / (cost * (done - before)) if done > before else pace
        rest = sum(self._costs[name] * (1 - self._done[name]) for name in later)
        return round(own_pace * cost * (1 - done) + pace * rest, 1)


class Repeated:
    """Makes a call every `interval_s` from a thread, until the context ends."""

    def __init__(self, call: Callable[[], None], interval_s: float) -> None:
        self._call = call
        self._interval_s = interval_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="repeated")

    def _run(self) -> None:
        while not self._end.wait(self._interval_s):
            try:
                self._call()
            except OSError as error:
                # A full disk or a vanished folder ends the job in the main thread, which has the words for it.
                print(f"In the background: {error}.", file=sys.stderr)

    def __enter__(self) -> Repeated:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
