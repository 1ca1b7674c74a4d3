# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a shot, make its clip, stop making it."""

from __future__ import annotations

from bpy.types import Context, Operator

from ...backend.protocol import ProtocolError
from .. import camera_check, session, shots
from ..properties import shot_settings


class SANAWM_OT_check_shot(Operator):
    bl_idname = "sanawm.check_shot"
    bl_label = "Check Shot"
    bl_description = "Follow the camera over the range and say what the model cannot film, or does not like"
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        camera_check.look(context)
        if not shots.current_findings(context):
            self.report({"INFO"}, "The model likes this camera move")
        return {"FINISHED"}


class SANAWM_OT_generate(Operator):
    bl_idname = "sanawm.generate"
    bl_label = "Generate"
    bl_description = "Make a clip of this shot and place it in the sequencer"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        obstacle = shots.obstacle(shot_settings(context.scene))
        if not obstacle and session.active_job(context.scene):
            obstacle = "This shot's clip is being made; wait for it or cancel it"
        if obstacle:
            cls.poll_message_set(obstacle)
        return not obstacle

    def execute(self, context: Context) -> set[str]:
        try:
            shot, first_frame_png = shots.export(context, shot_settings(context.scene))
            job = session.supervisor.submit(shot, first_frame_png)
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Queued {job.name}")
        return {"FINISHED"}


class SANAWM_OT_cancel(Operator):
    bl_idname = "sanawm.cancel"
    bl_label = "Cancel"
    bl_description = "Stop making this shot's clip"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        job = session.active_job(context.scene)
        return job is not None and not job.folder.cancel_requested()

    def execute(self, context: Context) -> set[str]:
        job = session.active_job(context.scene)
        try:
            session.supervisor.cancel(job)
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}
