# SPDX-License-Identifier: GPL-3.0-or-later
"""The shots of a scene, in the viewport and in the sequencer."""

from __future__ import annotations

from bpy.props import EnumProperty
from bpy.types import Context, Menu, Panel, Scene, UILayout, UIList

from .. import batch, shot_list, staleness
from ..operators.shot_list import list_scene
from ..properties import SANAWM_PG_shot, shot_settings
from ..shot_rows import length_in_words, match_icon, match_in_words, status_of
from .parts import SequencerPanel, SidebarPanel, draw_sentence

# From this width on, at scale 1, an entry has room for the shot's name.
_WIDE_PX = 420


class SANAWM_UL_shots(UIList):
    bl_idname = "SANAWM_UL_shots"

    order: EnumProperty(
        name="Order",
        items=(
            ("LIST", "List", "As the list is, which is the order of a batch"),
            ("CODE", "Code", "By code"),
            ("START", "Start", "By first frame"),
        ),
    )

    def draw_item(
        self,
        context: Context,
        layout: UILayout,
        _data,
        shot: SANAWM_PG_shot,
        _icon,
        _active_data,
        _active_property,
        _index,
    ) -> None:
        row = layout.row(align=True)
        row.prop(shot, "is_selected", text="")
        split = row.split(factor=0.3 if _is_wide(context) else 0.45)
        split.prop(shot, "code", text="", emboss=False)
        right = split.row(align=True)
        if _is_wide(context):
            right.prop(shot, "name", text="", emboss=False)
        word, icon = status_of(shot)
        right.label(text=word or length_in_words(shot))
        # In a narrow sidebar every icon costs a number's room.
        marks = ["FILE_REFRESH"] if batch.known_changes(shot) else []
        for mark in (*marks, icon or match_icon(shot)):
            if mark:
                right.label(text="", icon=mark)

    def draw_filter(self, _context: Context, layout: UILayout) -> None:
        row = layout.row(align=True)
        row.prop(self, "filter_name", text="")
        row.prop(self, "use_filter_invert", text="", icon="ARROW_LEFTRIGHT")
        row = layout.row(align=True)
        row.prop(self, "order", expand=True)
        row.prop(self, "use_filter_sort_reverse", text="", icon="SORT_DESC")

    def filter_items(self, _context: Context, data: Scene, name: str) -> tuple[list[int], list[int]]:
        shots, flags, places = list(getattr(data, name)), [], []
        if self.filter_name:
            found = shot_list.shown(shots, self.filter_name)
            flags = [self.bitflag_filter_item if hit else 0 for hit in found]
        if self.order != "LIST":
            places = shot_list.places(shots, self.order)
        return flags, places


class SANAWM_MT_shots(Menu):
    bl_idname = "SANAWM_MT_shots"
    bl_label = "Shots"

    def draw(self, _context: Context) -> None:
        layout = self.layout
        layout.operator("sanawm.shots_from_markers", icon="MARKER_HLT")
        layout.operator("sanawm.shots_from_strips", icon="SEQUENCE")
        layout.operator("sanawm.shots_from_file", icon="IMPORT")
        layout.separator()
        layout.operator("sanawm.duplicate_shot", icon="DUPLICATE")
        layout.separator()
        layout.operator("sanawm.write_shots", icon="EXPORT")


def draw_shot_list(layout: UILayout, context: Context) -> None:
    scene = list_scene(context)
    if scene != context.scene:
        layout.label(text=f"Shots of {scene.name}", icon="SCENE_DATA")
    row = layout.row()
    rows = 7 if scene.sana_wm_shots else 3
    row.template_list("SANAWM_UL_shots", "", scene, "sana_wm_shots", scene, "sana_wm_shot_index", rows=rows)
    side = row.column(align=True)
    side.operator("sanawm.add_shot", text="", icon="ADD")
    side.operator("sanawm.remove_shot", text="", icon="REMOVE")
    side.menu("SANAWM_MT_shots", text="", icon="DOWNARROW_HLT")
    if not scene.sana_wm_shots:
        return
    side.separator()
    side.operator("sanawm.move_shot", text="", icon="TRIA_UP").direction = "UP"
    side.operator("sanawm.move_shot", text="", icon="TRIA_DOWN").direction = "DOWN"
    side.separator()
    side.operator("sanawm.look_through_shot", text="", icon="VIEW_CAMERA")
    _draw_active(layout, context, shot_settings(scene))


def _draw_active(layout: UILayout, context: Context, shot: SANAWM_PG_shot) -> None:
    """What an entry has no room for."""
    layout.prop(shot, "name")
    changed, match = batch.known_changes(shot), match_in_words(shot)
    if changed:
        draw_sentence(layout, context, staleness.in_words(changed), icon="FILE_REFRESH")
    if match:
        draw_sentence(layout, context, match, icon=match_icon(shot))


def _is_wide(context: Context) -> bool:
    scale = context.preferences.system.ui_scale or 1  # 0 without a window
    return context.region is not None and context.region.width / scale >= _WIDE_PX


class SANAWM_PT_shots(SidebarPanel, Panel):
    bl_idname = "SANAWM_PT_shots"
    bl_label = "Shots"

    def draw(self, context: Context) -> None:
        draw_shot_list(self.layout, context)


class SANAWM_PT_shots_in_sequencer(SequencerPanel, Panel):
    bl_idname = "SANAWM_PT_shots_in_sequencer"
    bl_label = "Shots"

    def draw(self, context: Context) -> None:
        draw_shot_list(self.layout, context)
