# SPDX-License-Identifier: GPL-3.0-or-later
"""A blockout to try things on."""

from __future__ import annotations

from bpy.types import Context, Operator

from .. import demo_scene


class SANAWM_OT_add_demo_scene(Operator):
    bl_idname = "sanawm.add_demo_scene"
    bl_label = "Add Demo Scene"
    bl_description = "Add a street of boxes, an arch, a figure and a moving camera, and look through that"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        scene = demo_scene.build(context)
        context.window.scene = scene
        if context.area and context.area.type == "VIEW_3D":
            context.space_data.region_3d.view_perspective = "CAMERA"
        return {"FINISHED"}
