# SPDX-License-Identifier: GPL-3.0-or-later
"""The shots of a scene, in the viewport and in the sequencer."""

from __future__ import annotations

from bpy.types import Context, Menu, Panel, UILayout, UIList

from .. import batch
from ..operators.shot_list import list_scene
from ..shot_rows import length_in_words, match_icon, status_of
from .parts import SidebarPanel


class SANAWM_UL_shots(UIList):
    bl_idname = "SANAWM_UL_shots"

    def draw_item(
        self, _context: Context, layout: UILayout, _data, shot, _icon, _active_data, _active_property, _index
    ) -> None:
        row = layout.row(align=True)
        row.prop(shot, "is_selected", text="")
        split = row.split(factor=0.42)
        split.prop(shot, "code", text="", emboss=False)
        right = split.row(align=True)
        word, icon = status_of(shot)
        right.label(text=word or length_in_words(shot))
        if batch.known_changes(shot):
            right.label(text="", icon="FILE_REFRESH")
        right.label(text="", icon=match_icon(batch.last_clip(shot)))
        right.label(text="", icon=icon)


class SANAWM_MT_shots(Menu):
    bl_idname = "SANAWM_MT_shots"
    bl_label = "Shots"

    def draw(self, _context: Context) -> None:
        layout = self.layout
        layout.operator("sanawm.shots_from_markers", icon="MARKER_HLT")
        layout.operator("sanawm.shots_from_strips", icon="SEQUENCE")
        layout.operator("sanawm.shots_from_file", icon="IMPORT")
        layout.separator()
        layout.operator("sanawm.write_shots", icon="EXPORT")


def draw_shot_list(layout: UILayout, context: Context) -> None:
    scene = list_scene(context)
    row = layout.row()
    row.template_list("SANAWM_UL_shots", "", scene, "sana_wm_shots", scene, "sana_wm_shot_index", rows=4)
    side = row.column(align=True)
    side.operator("sanawm.add_shot", text="", icon="ADD")
    side.operator("sanawm.remove_shot", text="", icon="REMOVE")
    side.menu("SANAWM_MT_shots", text="", icon="DOWNARROW_HLT")
    if not scene.sana_wm_shots:
        return
    side.separator()
    side.operator("sanawm.move_shot", text="", icon="TRIA_UP").direction = "UP"
    side.operator("sanawm.move_shot", text="", icon="TRIA_DOWN").direction = "DOWN"
    side.operator("sanawm.look_through_shot", text="", icon="CAMERA_DATA")


class SANAWM_PT_shots(SidebarPanel, Panel):
    bl_idname = "SANAWM_PT_shots"
    bl_label = "Shots"

    def draw(self, context: Context) -> None:
        draw_shot_list(self.layout, context)


class SANAWM_PT_shots_in_sequencer(Panel):
    bl_idname = "SANAWM_PT_shots_in_sequencer"
    bl_label = "Shots"
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "UI"
    bl_category = "SANA-WM"

    def draw(self, context: Context) -> None:
        draw_shot_list(self.layout, context)
