# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine can run, as the backend's `doctor` reports it: followed to its end, and shown as a text."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.types import Text

from . import paths, weights
from .backend_process import Child, find_backend

TEXT_NAME = "SANA-WM Machine"


class MachineCheck:
    """One run of `doctor` in the backend's Python.

    Attributes:
        message: one sentence: that it runs, what it found, or why it found nothing.
        outcome: "running", "done" or "failed".
        report: for people, a line of at most 100 characters each; empty until it is done.
    """

    def __init__(self) -> None:
        """Start it.

        Raises:
            ProtocolError: the backend is not set up.
            OSError: the child does not start.
        """
        backend = find_backend(paths.backend_folder())
        output = Path(bpy.app.tempdir) / "sana_wm_machine.txt"
        output.unlink(missing_ok=True)
        command = [backend.python, "-X", "utf8", "-m", "backend", "doctor"]
        command += ["--weights", weights.folder(), "--device", backend.device]
        self._child = Child(command, paths.EXTENSION_ROOT, output, paths.blender_folder())
        self.message, self.outcome, self.report = "Looking at this machine", "running", ""

    def poll(self) -> bool:
        """Take in the report when it is there; whether anything changed."""
        if self.outcome != "running" or (exit_code := self._child.exit_code) is None:
            return False
        if exit_code in (0, 1):  # 1: something is damaged, or nothing can run, and the report says what
            self.report = self._child.output.read_text(encoding="utf-8", errors="replace")
            self.message, self.outcome = self._child.last_words(), "done"
        else:
            self.message = f"It stopped with exit code {exit_code}: {self._child.last_words()}"
            self.outcome = "failed"
        return True

    def cancel(self) -> None:
        self._child.stop()


def show(report: str) -> Text:
    """The report as a text of the open file, in a window of its own where Blender has windows."""
    text = bpy.data.texts.get(TEXT_NAME) or bpy.data.texts.new(TEXT_NAME)
    text.from_string(report)
    text.cursor_set(0)
    if not bpy.app.background:
        bpy.ops.wm.window_new()
        area = bpy.context.window_manager.windows[-1].screen.areas[0]
        area.type = "TEXT_EDITOR"
        editor = area.spaces.active
        editor.text, editor.show_syntax_highlight, editor.show_line_numbers = text, False, False
    return text
