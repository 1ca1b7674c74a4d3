# SPDX-License-Identifier: GPL-3.0-or-later
"""The released model's weights on this machine: their folder, and the backend's errands there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bpy

from ..backend.protocol import EventReader
from . import paths
from .backend_process import Child, find_backend


def folder() -> Path:
    """Where weights are, or will be downloaded to: the user's choice, or else Blender's folder for our data."""
    chosen = paths.preferences().weights_folder
    if chosen:
        return Path(bpy.path.abspath(chosen))
    return Path(bpy.utils.extension_path_user(paths.ROOT_PACKAGE, path="weights"))


class WeightsErrand:
    """One run of `weights` in the backend's Python: its progress, and in the end its sentence.

    Attributes:
        message: the last sentence.
        fraction: 0..1.
        outcome: "running", "done", "failed" or "cancelled".
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Start it.

        Args:
            words: the command and its components, such as "download", "vae".

        Raises:
            ProtocolError: the backend is not set up.
            OSError: the child does not start, or the weights folder cannot be made.
        """
        backend = find_backend(paths.backend_folder())
        root = folder()
        root.mkdir(parents=True, exist_ok=True)
        events = root / "weights.jsonl"
        events.unlink(missing_ok=True)
        command = [backend.python, "-m", "backend", "weights", *words, "--json", "--weights", root]
        self._child = Child(command, paths.EXTENSION_ROOT, events, paths.blender_folder())
        self._events = EventReader(events)
        self._stage = ""
        self.message, self.fraction, self.outcome = "Starting", 0.0, "running"

    def poll(self) -> bool:
        """Take in what was reported since the last call; whether anything changed."""
        if self.outcome != "running":
            return False
        exit_code = self._child.exit_code  # before reading, so that the last words of an ended child are seen
        changed = exit_code is not None
        for event in self._events.poll():
            self._stage, self.message = str(event.get("stage", "")), str(event.get("message", ""))
            self.fraction = float(event.get("fraction", self.fraction))
            changed = True
        if exit_code is not None:
            self.outcome = {0: "done", 130: "cancelled"}.get(exit_code, "failed")
            if self._stage != self.outcome:  # it could not say so itself
                self.message = f"It stopped with exit code {exit_code}: {self._child.last_words()}"
        return changed

    def cancel(self) -> None:
        """Ask it to stop; the next download goes on from there."""
        self._child.stop()
