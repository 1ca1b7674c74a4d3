# SPDX-License-Identifier: GPL-3.0-or-later
"""The active take, in the sequencer's sidebar."""

from __future__ import annotations

from bpy.types import Context, Panel

from ...backend.protocol import CameraMatch
from .. import takes, verdicts
from ..compare import stack
from ..compare.match_band import scale
from ..compat import sequencer_scene
from .camera_match import draw_match
from .parts import SequencerPanel

_UNITS = {
    "heading_deg": (1, "°"),
    "position_scaled_m": (1, " m"),
    "slide_px": (1, " px"),
    "kept": (100, " %"),
    "sharpness": (100, " %"),
}


class SANAWM_PT_take(SequencerPanel, Panel):
    bl_idname = "SANAWM_PT_take"
    bl_label = "Take"

    @classmethod
    def poll(cls, context: Context) -> bool:
        scene = sequencer_scene(context)
        editor = scene.sequence_editor
        return editor is not None and (takes.is_take(editor.active_strip) or stack.MARK in scene)

    def draw(self, context: Context) -> None:
        scene = sequencer_scene(context)
        if stack.MARK in scene:
            self.layout.operator("sanawm.end_comparison", icon="LOOP_BACK")
        strip = scene.sequence_editor.active_strip
        if not takes.is_take(strip):
            return  # a comparison's other strips
        mark, job = strip["sana_wm"], takes.job_of(strip)
        count = len(takes.takes_of(scene, mark["shot"]))
        column = self.layout.column()
        column.label(text=f"{strip.name}, seed {mark['seed']}", icon="SEQUENCE")
        column.label(text=f"{count} {'take' if count == 1 else 'takes'} of {mark['shot']} here")
        column.operator("sanawm.pick_take", icon="CHECKMARK", depress=not strip.mute)
        column.operator("sanawm.settings_of_take", icon="LOOP_BACK")
        column.operator("sanawm.go_on_from_take", icon="NEXT_KEYFRAME")
        column.operator("sanawm.remove_take", icon="X")
        row = self.layout.row(align=True)
        row.operator("sanawm.compare_stack", text="Difference", icon="SELECT_DIFFERENCE").blend = "DIFFERENCE"
        row.operator("sanawm.compare_stack", text="50 %", icon="IMAGE_ALPHA").blend = "HALF"
        row = self.layout.row(align=True)
        row.operator("sanawm.contact_sheet", icon="IMGDISPLAY")
        row.operator("sanawm.burn_in", icon="RENDER_ANIMATION")
        draw_match(self.layout, context, job, place="TAKE")
        view = context.window_manager.sana_wm_view
        self.layout.prop(view, "shows_band")
        self.layout.prop(view, "curve")
        match = verdicts.match_of(job)
        if view.curve != "NONE" and match and not match.unmeasured:
            self.layout.label(text=_scale_in_words(match, view.curve), icon="BLANK1")


def _scale_in_words(match: CameraMatch, number: str) -> str:
    """What the height of the curve means."""
    factor, unit = _UNITS[number]
    top, good_until = (f"{value * factor:.3g}{unit}" for value in scale(match, number))
    side = "above" if number in ("kept", "sharpness") else "below"
    return f"Full height {top}; good {side} {good_until}"
