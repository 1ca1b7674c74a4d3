# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person does on the first day, step by step; a step says what was seen, or raises UiTestError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import batch, comparison, first_clip, weights
from .window import Window

Step = Callable[[Window], str]


def steps(archive: Path, backend: Path) -> list[tuple[str, Step]]:
    """The name of each, and what does it.

    Args:
        archive: the extension zip.
        backend: the folder in which the backend is set up.
    """
    return [
        ("install", lambda window: first_clip.install(window, archive)),
        ("demo_scene", lambda window: first_clip.demo_scene(window, backend)),
        ("preferences", weights.show_preferences),
        ("weights", weights.chosen_folder),
        ("memory_plan", weights.memory_plan),
        ("check_camera", first_clip.check_camera),
        ("generate", first_clip.generate),
        ("cancel", first_clip.cancel),
        ("generate_again", first_clip.generate_again),
        ("strip", first_clip.strip),
        ("match", first_clip.match),
        ("overlay", comparison.overlay),
        ("wipe", comparison.wipe),
        ("wipe_dragged", comparison.drag_wipe),
        ("wipe_flipped", comparison.flip_wipe),
        ("edges", comparison.edges),
        ("difference", comparison.difference),
        ("shot_list", batch.shot_list),
        ("batch", batch.generate_all),
        ("batch_done", batch.wait_for_all),
        ("quit", batch.quit_blender),
        ("opened_again", batch.open_again),
    ]
