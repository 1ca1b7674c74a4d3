# SPDX-License-Identifier: GPL-3.0-or-later
"""The diary of a job: one JSON object a line, only ever appended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class EventLog:
    """Appends to `events.jsonl`; the worker is its one writer.

    Every event has `time` (seconds since the epoch) and `kind`:

    - "state": state, reason.
    - "progress": stage, step, steps, seconds_left (or null), memory_mb.
    - "heartbeat": memory_mb.
    - "frames": count, the frames that the preview holds.
    - "warning": message.
    - "note": message, about how the job is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, kind: str, **values: Any) -> None:
        """Write one event in a single write, ending a line that a crash left half-written first."""
        line = json.dumps({"time": time.time(), "kind": kind, **values}, ensure_ascii=False).encode() + b"\n"
        with open(self.path, "a+b") as file:
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                line = b"\n" + line
            file.write(line)


class EventReader:
    """Follows `events.jsonl`: each call of `poll` gives what came since the last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def poll(self) -> Iterator[dict[str, Any]]:
        """New complete events; a half-written last line waits, a damaged one is passed over."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return
        complete = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "kind" in event and "time" in event:
                yield event
