# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits and what went wrong: earlier, later, cancelled, tried again."""

from __future__ import annotations

from bpy.props import EnumProperty, StringProperty
from bpy.types import Context, Operator

from ...backend.protocol import ProtocolError
from .. import session


class _OnAJob:
    bl_options = {"INTERNAL"}

    job: StringProperty(description="The request that the job answers")

    def execute(self, context: Context) -> set[str]:
        job = session.supervisor.jobs.get(self.job)
        if job is None:
            return {"CANCELLED"}
        try:
            self.use(job)
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class SANAWM_OT_cancel_job(_OnAJob, Operator):
    bl_idname = "sanawm.cancel_job"
    bl_label = "Cancel Job"
    bl_description = "Take this job out of the queue, or stop it"

    def use(self, job) -> None:
        session.supervisor.cancel(job)


class SANAWM_OT_retry_job(_OnAJob, Operator):
    bl_idname = "sanawm.retry_job"
    bl_label = "Try Again"
    bl_description = "Queue this job again, as it was exported"

    def use(self, job) -> None:
        session.supervisor.retry(job)


class SANAWM_OT_move_job(_OnAJob, Operator):
    bl_idname = "sanawm.move_job"
    bl_label = "Move in the Queue"
    bl_description = "Let this job be made earlier or later"

    direction: EnumProperty(items=(("UP", "Earlier", ""), ("DOWN", "Later", "")))

    def use(self, job) -> None:
        session.supervisor.move_in_queue(job, -1 if self.direction == "UP" else 1)


class SANAWM_OT_cancel_waiting(Operator):
    bl_idname = "sanawm.cancel_waiting"
    bl_label = "Cancel All Waiting"
    bl_description = "Take every job that waits out of the queue; what is being made goes on"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: Context) -> bool:
        return bool(session.supervisor.queue())

    def execute(self, _context: Context) -> set[str]:
        for job in session.supervisor.queue():
            try:
                session.supervisor.cancel(job)
            except (ProtocolError, OSError) as error:
                self.report({"WARNING"}, f"{job.name}: {error}")
        return {"FINISHED"}
