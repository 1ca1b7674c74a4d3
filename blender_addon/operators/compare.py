# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the last clip with the blockout."""

from __future__ import annotations

from bpy.types import Context, Operator

from ...backend.protocol import ProtocolError
from .. import session
from ..compare.overlay import hide_overlay, show_overlay, shown_overlay


class SANAWM_OT_overlay(Operator):
    bl_idname = "sanawm.overlay"
    bl_label = "Overlay"
    bl_description = (
        "Show this scene's last clip in front of the blockout, through its camera; again to hide it"
    )
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        job = session.latest_job(context.scene)
        return job is not None and job.is_done

    def execute(self, context: Context) -> set[str]:
        shown = shown_overlay(context.scene)
        if shown is not None:
            hide_overlay(shown)
            return {"FINISHED"}
        try:
            show_overlay(context.scene, session.latest_job(context.scene).folder)
        except (ProtocolError, RuntimeError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if context.region_data is not None:
            context.region_data.view_perspective = "CAMERA"
            context.space_data.overlay.show_overlays = True  # without them it would not be drawn
        return {"FINISHED"}
