# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a job for another machine."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import StringProperty
from bpy.types import Context, Event, Operator

from ...backend.protocol import JobFolder, ProtocolError
from .. import shots
from ..properties import shot_settings


class SANAWM_OT_export_job(Operator):
    bl_idname = "sanawm.export_job"
    bl_label = "Export Job"
    bl_description = "Write the shot's job folder without making the clip here, to send it to another machine"
    bl_options = {"INTERNAL"}

    directory: StringProperty(
        name="Folder", description="The job folder is made inside of this folder", subtype="DIR_PATH"
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        obstacle = shots.obstacle_in_scene(shot_settings(context.scene))
        if obstacle:
            cls.poll_message_set(obstacle)
        return not obstacle

    def invoke(self, context: Context, _event: Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: Context) -> set[str]:
        if not self.directory:
            self.report({"ERROR"}, "Choose a folder for the job")
            return {"CANCELLED"}
        try:
            shot, first_frame_png = shots.export(context, shot_settings(context.scene))
            folder = Path(bpy.path.abspath(self.directory))
            job = JobFolder.create(folder, shot, first_frame_png, queue=False)
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Wrote {job.path}")
        return {"FINISHED"}
