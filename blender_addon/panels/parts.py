# SPDX-License-Identifier: GPL-3.0-or-later
"""What the panels share."""

from __future__ import annotations

import blf
import bpy
from bpy.types import Context, UILayout

from ...backend.protocol import Preset

# At scale 1: what a sidebar keeps beside a label, and what its icon takes of it.
_MARGIN_PX, _ICON_PX = 62, 22
_INTERFACE_FONT = 0
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
    blf.size(_INTERFACE_FONT, context.preferences.ui_styles[0].widget.points)
    room_px = width_px / scale - _MARGIN_PX - beside_px - (_ICON_PX if icon != "NONE" else 0)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for index, line in enumerate(_wrapped(sentence, max(room_px, 120))):
        column.label(text=line, icon="BLANK1" if index and icon != "NONE" else icon)


def _wrapped(sentence: str, room_px: float) -> list[str]:
    """Lines that fit, for labels do not wrap by themselves; a word that is too long, such as a path, is cut."""
    lines = [""]
    for word in sentence.split():
        longer = f"{lines[-1]} {word}".strip()
        if _width_px(longer) <= room_px:
            lines[-1] = longer
            continue
        lines.append("")
        for character in word:
            if _width_px(lines[-1] + character) > room_px:
                lines.append("")
            lines[-1] += character
    return [line for line in lines if line]


def _width_px(text: str) -> float:
    """At scale 1, in the size that was set."""
    return blf.dimensions(_INTERFACE_FONT, text)[0]


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
