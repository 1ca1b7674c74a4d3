# SPDX-License-Identifier: GPL-3.0-or-later
"""What is needed now and then."""

from __future__ import annotations

from bpy.types import Context, Panel

from ..properties import shot_settings
from .parts import SidebarPanel


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
        column.operator("sanawm.export_job", icon="EXPORT")
        column.operator("sanawm.add_demo_scene", icon="SCENE_DATA")
