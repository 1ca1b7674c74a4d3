# SPDX-License-Identifier: GPL-3.0-or-later
"""What is needed now and then."""

from __future__ import annotations

from bpy.types import Context, Menu, Panel

from ..properties import shot_settings
from .parts import SidebarPanel


class SANAWM_MT_camera_paths(Menu):
    bl_idname = "SANAWM_MT_camera_paths"
    bl_label = "Camera Paths"

    def draw(self, _context: Context) -> None:
        layout = self.layout
        layout.operator("sanawm.import_camera", icon="IMPORT")
        layout.operator("sanawm.export_camera", icon="EXPORT")
        layout.operator("sanawm.camera_from_actions", icon="EVENT_W")


class SANAWM_PT_more(SidebarPanel, Panel):
    bl_idname = "SANAWM_PT_more"
    bl_label = "More"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(shot_settings(context.scene), "negative_prompt", text="Negative")
        column = layout.column()
        column.menu("SANAWM_MT_camera_paths", icon="CURVE_PATH")
        column.operator("sanawm.export_job", icon="EXPORT")
        column.operator("sanawm.add_demo_scene", icon="SCENE_DATA")
