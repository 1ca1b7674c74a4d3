# SPDX-License-Identifier: GPL-3.0-or-later
"""The active take, in the sequencer's sidebar."""

from __future__ import annotations

from bpy.types import Context, Panel

from .. import takes
from ..compat import sequencer_scene
from .camera_match import draw_match


class SANAWM_PT_take(Panel):
    bl_idname = "SANAWM_PT_take"
    bl_label = "Take"
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "UI"
    bl_category = "SANA-WM"

    @classmethod
    def poll(cls, context: Context) -> bool:
        editor = sequencer_scene(context).sequence_editor
        return editor is not None and takes.is_take(editor.active_strip)

    def draw(self, context: Context) -> None:
        scene = sequencer_scene(context)
        strip = scene.sequence_editor.active_strip
        mark = strip["sana_wm"]
        count = len(takes.takes_of(scene, mark["shot"]))
        column = self.layout.column()
        column.label(text=f"{strip.name}, seed {mark['seed']}", icon="SEQUENCE")
        column.label(text=f"{count} {'take' if count == 1 else 'takes'} of {mark['shot']} here")
        column.operator("sanawm.pick_take", icon="CHECKMARK", depress=not strip.mute)
        column.operator("sanawm.settings_of_take", icon="LOOP_BACK")
        column.operator("sanawm.go_on_from_take", icon="NEXT_KEYFRAME")
        column.operator("sanawm.remove_take", icon="X")
        draw_match(self.layout, context, takes.job_of(strip))
        view = context.window_manager.sana_wm_view
        self.layout.prop(view, "shows_band")
        self.layout.prop(view, "curve")
