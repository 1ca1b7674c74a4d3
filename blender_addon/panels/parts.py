# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels share."""

from __future__ import annotations

import textwrap

import bpy
from bpy.types import Context, UILayout

from ...backend.protocol import Preset

# Of the interface font at scale 1; labels do not wrap by themselves.
_CHARACTER_PX = 6.3
_MARGIN_PX = 60
_EMBEDDED_MODEL = "embedded"


class SidebarPanel:
    """Where our panels live: a tab of the viewport's sidebar."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "SANA-WM"


class SequencerPanel(SidebarPanel):
    """The same tab of the sequencer's sidebar."""

    bl_space_type = "SEQUENCE_EDITOR"


def draw_sentence(
    layout: UILayout, context: Context, sentence: str, icon: str = "NONE", beside_px: float = 0
) -> None:
    """A sentence over as many lines as the sidebar's width needs.

    Args:
        beside_px: of the width, at scale 1, that something else in the row takes.
    """
    scale = context.preferences.system.ui_scale or 1  # 0 without a window
    width_px = context.region.width if context.region else 300
    characters = max(20, int((width_px / scale - _MARGIN_PX - beside_px) / _CHARACTER_PX))
    column = layout.column(align=True)
    column.scale_y = 0.8
    for index, line in enumerate(textwrap.wrap(sentence, characters)):
        column.label(text=line, icon="BLANK1" if index and icon != "NONE" else icon)


def duration_in_words(seconds: float) -> str:
    """Roughly, as one says it: "about 2 min"."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} s"
    return f"about {round(seconds / 60):d} min"


def reads_prompt(preset: Preset | None) -> bool:
    """The embedded model does not."""
    return preset is None or preset.model != _EMBEDDED_MODEL


def draw_online_access(layout: UILayout) -> None:
    """Blender's own switch for the network, as long as it is off: setting up needs it."""
    if bpy.app.online_access:
        return
    row = layout.row()
    row.use_property_split = False  # its label needs the whole width
    row.enabled = not bpy.app.online_access_override
    row.prop(bpy.context.preferences.system, "use_online_access")
