# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check of the camera leads to: go where it is worst, slow down, scale, split."""

from __future__ import annotations

from bpy.props import IntProperty
from bpy.types import Context, Operator

from ...backend.protocol import ProtocolError
from .. import remedies


class _Remedy:
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        try:
            self.report({"INFO"}, self.cure(context))
        except ProtocolError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class SANAWM_OT_slow_down(_Remedy, Operator):
    bl_idname = "sanawm.slow_down"
    bl_label = "Slow Down"
    bl_description = (
        "Stretch the camera's keys, and the shot's range with them, until the move is gentle. The rest of the scene "
        "keeps its time"
    )

    def cure(self, context: Context) -> str:
        return remedies.slow_down(context)


class SANAWM_OT_scale_path(_Remedy, Operator):
    bl_idname = "sanawm.scale_path"
    bl_label = "Scale Path"
    bl_description = (
        "Shrink the camera's path towards its first place until its speed is gentle. The model takes a metre of the "
        "scene as a metre: where the set is built larger than life, scale the set instead"
    )

    def cure(self, context: Context) -> str:
        return remedies.scale_path(context)


class SANAWM_OT_split_shot(_Remedy, Operator):
    bl_idname = "sanawm.split_shot"
    bl_label = "Split Shot"
    bl_description = (
        "End the shot where it cuts, or in its middle; in a shot list, the rest becomes the next shot"
    )

    frame: IntProperty(
        name="Frame",
        description="First scene frame of the second part; 0: at the cut, or in the middle",
        default=0,
    )

    def cure(self, context: Context) -> str:
        return remedies.split(context, self.frame or remedies.split_frame(context))


class SANAWM_OT_go_to_frame(Operator):
    bl_idname = "sanawm.go_to_frame"
    bl_label = "Go There"
    bl_description = "Move the playhead to this frame"
    bl_options = {"INTERNAL"}

    frame: IntProperty()

    def execute(self, context: Context) -> set[str]:
        context.scene.frame_set(self.frame)
        return {"FINISHED"}
