# SPDX-License-Identifier: GPL-3.0-or-later
"""Something that the backend does beside clips: a set-up, a download. No bpy here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from .backend_process import Child


class Errand:
    """A child process that reports in JSON, {"stage", "message", "fraction"} a line; the last stage is its outcome.

    Attributes:
        message: the last sentence.
        fraction: 0..1.
        outcome: "running", "done", "failed" or "cancelled".
    """

    def __init__(self, command: Sequence[str | Path], cwd: Path, output: Path, blender_folder: Path) -> None:
        """Start it; what it says is appended to `output`.

        Raises:
            OSError: the child does not start.
        """
        self.message, self.fraction, self.outcome = "Starting", 0.0, "running"
        self._stage = ""
        self._child = Child(command, cwd, output, blender_folder)
        self._offset = self._child.output_start

    def poll(self) -> bool:
        """Take in what was reported since the last call; whether anything changed."""
        if self.outcome != "running":
            return False
        exit_code = self._child.exit_code  # before reading, so that the last words of an ended child are seen
        changed = exit_code is not None
        for report in self._fresh_reports():
            self._stage = str(report.get("stage", self._stage))
            self.message = str(report.get("message", self.message))
            self.fraction = float(report.get("fraction") or self.fraction)
            changed = True
        if exit_code is not None:
            self.outcome = {0: "done", 130: "cancelled"}.get(exit_code, "failed")
            if self._stage != self.outcome:  # it could not say so itself
                self.message = f"It stopped with exit code {exit_code}: {self._child.last_words()}"
        return changed

    def cancel(self) -> None:
        """Ask it to stop; what was there before stays in use."""
        self._child.stop()

    def _fresh_reports(self) -> Iterator[dict]:
        with open(self._child.output, "rb") as file:
            file.seek(self._offset)
            fresh = file.read()
        complete = fresh[: fresh.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            try:
                report = json.loads(line)
            except ValueError:
                continue
            if isinstance(report, dict):
                yield report
