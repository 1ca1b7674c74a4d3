# SPDX-License-Identifier: GPL-3.0-or-later
"""Set up the backend's own Python, which needs the network, and stop that."""

from __future__ import annotations

import bpy
from bpy.types import Context, Operator

from .. import paths, session


class SANAWM_OT_set_up_backend(Operator):
    bl_idname = "sanawm.set_up_backend"
    bl_label = "Set Up Backend"
    bl_description = (
        "Download the backend's Python packages from pypi.org and pytorch.org into a folder of their own: "
        "about 2 GB for the CPU, 8 GB for CUDA. What is set up now stays in use until the new one works"
    )
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: Context) -> bool:
        if session.is_setting_up():
            cls.poll_message_set("The backend is being set up")
            return False
        if not bpy.app.online_access:
            ways = "in the preferences under System, Network"
            if bpy.app.online_access_override:
                ways = "by starting Blender without --offline-mode"
            cls.poll_message_set(f"Setting up needs the internet once; allow online access {ways}")
            return False
        return True

    def execute(self, _context: Context) -> set[str]:
        try:
            session.start_setup(paths.preferences().device)
        except OSError as error:
            self.report({"ERROR"}, f"The set-up does not start: {error}")
            return {"CANCELLED"}
        return {"FINISHED"}


class SANAWM_OT_cancel_set_up(Operator):
    bl_idname = "sanawm.cancel_set_up"
    bl_label = "Cancel"
    bl_description = "Stop setting up; what was set up before stays in use"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: Context) -> bool:
        return session.is_setting_up()

    def execute(self, _context: Context) -> set[str]:
        session.setup.cancel()
        return {"FINISHED"}
