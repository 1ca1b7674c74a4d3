# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at where a clip leaves its camera: jump there, draw its path, measure again."""

from __future__ import annotations

from bpy.props import FloatProperty
from bpy.types import Context, Operator

from ...backend.protocol import ProtocolError
from .. import draw_path
from ..compare.looked_at import ClipTime, job_looked_at
from ..compare.match_path import ESTIMATED, hide_match_path, show_match_path


class _OfAClip:
    @classmethod
    def poll(cls, context: Context) -> bool:
        if job_looked_at(context.scene) is None:
            cls.poll_message_set("This shot has no clip yet")
            return False
        return True


class SANAWM_OT_jump_to_moment(_OfAClip, Operator):
    bl_idname = "sanawm.jump_to_moment"
    bl_label = "Go There"
    bl_description = "Move the playhead to this moment of the clip"
    bl_options = {"INTERNAL"}

    clip_s: FloatProperty(description="Seconds from the clip's first frame")

    def execute(self, context: Context) -> set[str]:
        try:
            time = ClipTime.of_job(job_looked_at(context.scene), context.scene)
        except ProtocolError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        context.scene.frame_set(round(time.scene_frame(self.clip_s)))
        return {"FINISHED"}


class SANAWM_OT_match_path(_OfAClip, Operator):
    bl_idname = "sanawm.match_path"
    bl_label = "Camera Path of the Clip"
    bl_description = (
        "Draw the path that the clip's camera takes beside the planned one, which is grey; again to hide it"
    )
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        if draw_path.is_shown(ESTIMATED):
            hide_match_path()
            return {"FINISHED"}
        try:
            show_match_path(context.scene, job_looked_at(context.scene))
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}
