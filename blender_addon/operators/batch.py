# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the clips of many shots, and look which of them are out of date."""

from __future__ import annotations

from bpy.props import EnumProperty
from bpy.types import Context, Operator

from ...backend.protocol import ProtocolError
from .. import batch, shots, staleness
from .shot_list import list_scene


class _OfTheList:
    @classmethod
    def poll(cls, context: Context) -> bool:
        scene, obstacle = list_scene(context), ""
        if not scene.sana_wm_shots:
            obstacle = "The shot list is empty"
        elif scene != context.scene:
            obstacle = f"Make {scene.name} the window's scene first: its cameras are followed there"
        if obstacle:
            cls.poll_message_set(obstacle)
        return not obstacle


class SANAWM_OT_generate_shots(_OfTheList, Operator):
    bl_idname = "sanawm.generate_shots"
    bl_label = "Generate Shots"
    bl_description = "Queue a clip, or as many takes as it asks for, of several shots of the list"
    bl_options = {"INTERNAL"}

    which: EnumProperty(
        name="Which",
        items=(
            ("SELECTED", "Selected", "The shots with a tick"),
            ("ALL", "All", "Every shot of the list"),
            ("STALE", "Stale", "Shots without a clip, and those that have changed since theirs was made"),
            ("FAILED", "Failed", "Shots whose last job failed or was cancelled"),
        ),
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        if not super().poll(context):
            return False
        obstacle = shots.backend_obstacle()
        if obstacle:
            cls.poll_message_set(obstacle)
        return not obstacle

    def execute(self, context: Context) -> set[str]:
        scene, unknown = context.scene, []
        if self.which == "STALE":
            wanted, unknown = batch.stale(context)
        else:
            choose = {"SELECTED": batch.selected, "FAILED": batch.failed}
            wanted = choose.get(self.which, lambda scene: list(scene.sana_wm_shots))(scene)
        outcome = batch.submit_all(context, wanted)
        outcome.left_out += unknown
        self.report({"WARNING" if outcome.left_out else "INFO"}, outcome.in_words())
        for code, reason in outcome.left_out[1:]:
            self.report({"WARNING"}, f"{code}: {reason}")
        return {"FINISHED"}


class SANAWM_OT_look_for_changes(_OfTheList, Operator):
    bl_idname = "sanawm.look_for_changes"
    bl_label = "Look for Changes"
    bl_description = "Follow every shot's camera and blockout, and mark the clips that are out of date"
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        changed = []
        for settings in context.scene.sana_wm_shots:
            job = batch.last_clip(settings)
            if job is None:
                continue
            try:
                staleness.look_for_changes(context, settings, job.folder)
            except ProtocolError as error:
                self.report({"WARNING"}, f"{settings.code}: {error}")
                continue
            aspects = staleness.known_changes(settings, job.folder)
            if aspects:
                changed.append(settings.code)
                self.report({"INFO"}, f"{settings.code}: {staleness.in_words(aspects)}")
        if not changed:
            self.report({"INFO"}, "Every clip is up to date")
        return {"FINISHED"}
