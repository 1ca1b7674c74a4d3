# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at where a clip leaves its camera: jump there, draw its path, move a camera along it."""

from __future__ import annotations

from bpy.props import EnumProperty, FloatProperty
from bpy.types import Context, Operator, Scene

from ...backend.protocol import ProtocolError
from .. import takes
from ..clip_time import ClipTime
from ..compare.looked_at import job_looked_at
from ..compare.match_path import camera_from_match, hide_match_path, is_shown_of, show_match_path
from ..compat import sequencer_scene


class SANAWM_OT_jump_to_moment(Operator):
    bl_idname = "sanawm.jump_to_moment"
    bl_label = "Go There"
    bl_description = "Move the playhead to this moment of the clip"
    bl_options = {"INTERNAL"}

    clip_s: FloatProperty(description="Seconds from the clip's first frame")
    place: EnumProperty(
        items=(
            ("SHOT", "Shot", "Where the shot was filmed, in the scene's time"),
            ("TAKE", "Take", "Where the active take lies in the edit"),
        )
    )

    def execute(self, context: Context) -> set[str]:
        scene = sequencer_scene(context) if self.place == "TAKE" else context.scene
        try:
            time = self._time(scene)
        except ProtocolError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        scene.frame_set(round(time.scene_frame(self.clip_s)))
        return {"FINISHED"}

    def _time(self, scene: Scene) -> ClipTime:
        if self.place == "TAKE":
            strip = scene.sequence_editor.active_strip if scene.sequence_editor else None
            if not takes.is_take(strip):
                raise ProtocolError("Select a take in the sequencer first.")
            return ClipTime.of_take(strip, scene)
        job = job_looked_at(scene)
        if job is None:
            raise ProtocolError("This shot has no clip yet.")
        return ClipTime.of_job(job, scene)


class _OfAClip:
    @classmethod
    def poll(cls, context: Context) -> bool:
        if job_looked_at(context.scene) is None:
            cls.poll_message_set("This shot has no clip yet")
            return False
        return True


class SANAWM_OT_match_path(_OfAClip, Operator):
    bl_idname = "sanawm.match_path"
    bl_label = "Camera Path of the Clip"
    bl_description = (
        "Draw the path that the clip's camera takes beside the planned one, which is grey; again to hide it"
    )
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        job = job_looked_at(context.scene)
        if is_shown_of(job):
            hide_match_path()
            return {"FINISHED"}
        try:
            show_match_path(context.scene, job)
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class SANAWM_OT_camera_from_match(_OfAClip, Operator):
    bl_idname = "sanawm.camera_from_match"
    bl_label = "Camera from This Path"
    bl_description = "A new camera that moves as the clip shows it; the shot keeps its own"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        try:
            made = camera_from_match(context.scene, job_looked_at(context.scene))
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"{made.name} moves as the clip shows it")
        return {"FINISHED"}
