# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a shot, make its clip, stop making it."""

from __future__ import annotations

from bpy.types import Context, Operator

from ...backend.protocol import ProtocolError
from .. import session, shots


class SANAWM_OT_check_shot(Operator):
    bl_idname = "sanawm.check_shot"
    bl_label = "Check Shot"
    bl_description = "Follow the camera over the range and say what the model cannot film, or does not like"
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        findings = shots.check(context)
        if not findings:
            self.report({"INFO"}, "The model likes this camera move")
        return {"FINISHED"}


class SANAWM_OT_generate(Operator):
    bl_idname = "sanawm.generate"
    bl_label = "Generate"
    bl_description = "Make a clip of this shot and place it in the sequencer"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        obstacle = shots.obstacle(context.scene)
        if not obstacle and session.supervisor.active(context.scene.session_uid):
            obstacle = "This scene's clip is being made; wait for it or cancel it"
        if obstacle:
            cls.poll_message_set(obstacle)
        return not obstacle

    def execute(self, context: Context) -> set[str]:
        try:
            shot, first_frame_png = shots.export(context)
            job = session.supervisor.submit(shot, first_frame_png)
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Queued {job.name}")
        return {"FINISHED"}


class SANAWM_OT_cancel(Operator):
    bl_idname = "sanawm.cancel"
    bl_label = "Cancel"
    bl_description = "Stop making this scene's clip"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        job = session.supervisor.active(context.scene.session_uid)
        return job is not None and not job.folder.cancel_requested()

    def execute(self, context: Context) -> set[str]:
        job = session.supervisor.active(context.scene.session_uid)
        try:
            session.supervisor.cancel(job)
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}
