# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on inside Blender: registration only."""

from . import operators, panels, preferences, properties, session

_PARTS = (properties, preferences, operators, panels, session)


def register() -> None:
    """Called by Blender when the extension is enabled."""
    for part in _PARTS:
        part.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled."""
    for part in reversed(_PARTS):
        part.unregister()
