# SPDX-License-Identifier: GPL-3.0-or-later
"""The set-up of the backend's own Python, by the installer that comes with it. No bpy here."""

from __future__ import annotations

import sys
from pathlib import Path

from .errand import Errand


class BackendSetup(Errand):
    """One run of the installer.

    Attributes:
        log: what pip said.
    """

    def __init__(self, target: Path, device: str, project: Path, blender_folder: Path) -> None:
        """Start it; what was set up before stays in use until it is done.

        Raises:
            OSError: the child does not start, or the folder cannot be made.
        """
        target.mkdir(parents=True, exist_ok=True)
        self.log = target / "setup.log"
        installer = project / "backend" / "installer.py"
        command = [sys.executable, "-I", installer, "--target", target, "--device", device]
        super().__init__([*command, "--project", project], project, target / "setup.jsonl", blender_folder)
