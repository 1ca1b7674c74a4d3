# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels share."""

from __future__ import annotations

import textwrap

from bpy.types import Context, UILayout

# Of the interface font at scale 1; labels do not wrap by themselves.
_CHARACTER_PX = 6.3
_MARGIN_PX = 60


class SidebarPanel:
    """Where our panels live."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "SANA-WM"


def draw_sentence(layout: UILayout, context: Context, sentence: str, icon: str = "NONE") -> None:
    """A sentence over as many lines as the sidebar's width needs."""
    scale = context.preferences.system.ui_scale or 1  # 0 without a window
    width_px = context.region.width if context.region else 300
    characters = max(20, int((width_px / scale - _MARGIN_PX) / _CHARACTER_PX))
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
