# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on inside Blender: registration only."""

from . import (
    camera_check,
    command_line,
    draw_path,
    operators,
    panels,
    preferences,
    properties,
    session,
    staleness,
)
from .compare import live, match_band, wipe, wireframe

_PARTS = (
    properties,
    preferences,
    operators,
    panels,
    draw_path,
    camera_check,
    match_band,
    wipe,
    wireframe,
    live,
    staleness,
    session,
    command_line,
)


def register() -> None:
    """Called by Blender when the extension is enabled."""
    for part in _PARTS:
        part.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled."""
    for part in reversed(_PARTS):
        part.unregister()
