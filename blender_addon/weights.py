# SPDX-License-Identifier: GPL-3.0-or-later
"""The released model's weights on this machine: their folder, and the backend's errands there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bpy

from ..backend.protocol.weights_folder import state, unconverted
from . import paths
from .backend_process import find_backend
from .errand import Errand


def folder() -> Path:
    """Where weights are, or will be downloaded to: the user's choice, or else Blender's folder for our data."""
    chosen = paths.preferences().weights_folder
    if chosen:
        return Path(bpy.path.abspath(chosen))
    return Path(bpy.utils.extension_path_user(paths.ROOT_PACKAGE, path="weights"))


def is_to_be_fetched(root: Path, component_id: str) -> bool:
    """Whether a component is not there, not even as a file that only has to be converted."""
    return state(root, component_id) != "present" and unconverted(root, component_id) is None


class WeightsErrand(Errand):
    """One run of `weights` in the backend's Python."""

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
        super().__init__(command, paths.EXTENSION_ROOT, events, paths.blender_folder())
