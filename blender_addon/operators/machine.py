# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the backend what this machine can run, and read its report."""

from __future__ import annotations

from bpy.types import Context, Operator

from ...backend.protocol import ProtocolError
from .. import machine_check, session


class SANAWM_OT_check_machine(Operator):
    bl_idname = "sanawm.check_machine"
    bl_label = "Check Machine"
    bl_description = (
        "Look at processor, memory, graphics card and weights, and say which presets can run here, and what keeps the "
        "others. Takes some seconds and loads nothing"
    )
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: Context) -> bool:
        if session.is_checking_machine():
            cls.poll_message_set("The machine is being looked at")
            return False
        return True

    def execute(self, _context: Context) -> set[str]:
        try:
            session.start_machine_check()
        except (ProtocolError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class SANAWM_OT_show_machine_report(Operator):
    bl_idname = "sanawm.show_machine_report"
    bl_label = "Show Report"
    bl_description = "Open what was found in a text editor, as a text of this file"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: Context) -> bool:
        return session.machine_check is not None and session.machine_check.outcome == "done"

    def execute(self, _context: Context) -> set[str]:
        machine_check.show(session.machine_check.report)
        return {"FINISHED"}
