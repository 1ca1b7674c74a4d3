# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the clip that is looked at with the blockout: in the viewport, in the sequencer, on paper."""

from __future__ import annotations

import bpy
from bpy.props import EnumProperty
from bpy.types import Context, Operator

from ...backend.protocol import JobFolder, ProtocolError
from .. import paths, takes
from ..compare import review, stack, viewport, wireframe
from ..compare.looked_at import job_looked_at
from ..compare.overlay import show_overlay, shown_overlay
from ..compat import look_at_in_sequencer, sequencer_scene


class _ComparesAClip:
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        if _job(context) is None:
            cls.poll_message_set("This shot has no clip yet")
            return False
        return True

    def execute(self, context: Context) -> set[str]:
        try:
            self.use(context, _job(context))
        except (ProtocolError, RuntimeError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


def _job(context: Context) -> JobFolder | None:
    """In the sequencer the active take's job, elsewhere that of the clip that is looked at."""
    if context.space_data is not None and context.space_data.type == "SEQUENCE_EDITOR":
        editor = sequencer_scene(context).sequence_editor
        if editor is not None and takes.is_take(editor.active_strip):
            return takes.job_of(editor.active_strip)
    return job_looked_at(context.scene)


class SANAWM_OT_overlay(_ComparesAClip, Operator):
    bl_idname = "sanawm.overlay"
    bl_label = "Overlay"
    bl_description = "Show the clip in front of the blockout, through its camera; again to hide it"

    def use(self, context: Context, job: JobFolder) -> None:
        is_off = shown_overlay(context.scene) is None or wireframe.is_on(context)
        viewport.leave_all(context)
        if is_off:
            show_overlay(context.scene, job)
            viewport.look_through_camera(context, job)


class SANAWM_OT_wireframe(_ComparesAClip, Operator):
    bl_idname = "sanawm.wireframe"
    bl_label = "Wireframe"
    bl_description = (
        "Show the clip with the blockout's edges over it, through its camera; again for the shading before"
    )

    def use(self, context: Context, job: JobFolder) -> None:
        is_off = not wireframe.is_on(context)
        viewport.leave_all(context)
        if is_off:
            wireframe.switch_on(context, job)
            viewport.look_through_camera(context, job)


class SANAWM_OT_compare_stack(_ComparesAClip, Operator):
    bl_idname = "sanawm.compare_stack"
    bl_label = "Compare in the Sequencer"
    bl_description = (
        "Lay clip and blockout over each other in a sequencer of their own; your edit is not touched"
    )

    blend: EnumProperty(
        name="Blend",
        items=(
            ("DIFFERENCE", "Difference", "Black where clip and blockout agree"),
            ("HALF", "50 %", "Half of each"),
        ),
    )

    def use(self, context: Context, job: JobFolder) -> None:
        film = bpy.data.scenes.get(job.source().scene) or context.scene
        look_at_in_sequencer(context, stack.compare(film, job, self.blend))


class SANAWM_OT_end_comparison(Operator):
    bl_idname = "sanawm.end_comparison"
    bl_label = "Back to the Edit"
    bl_description = "Remove the comparison and show the edit again"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        return stack.MARK in sequencer_scene(context)

    def execute(self, context: Context) -> set[str]:
        comparison = sequencer_scene(context)
        film = bpy.data.scenes.get(comparison[stack.MARK])
        if film is not None:
            look_at_in_sequencer(context, film)
        bpy.data.scenes.remove(comparison)
        return {"FINISHED"}


class SANAWM_OT_contact_sheet(Operator):
    bl_idname = "sanawm.contact_sheet"
    bl_label = "Contact Sheet"
    bl_description = (
        "First, middle and last frame of every take in this sequencer, as a picture beside the jobs"
    )
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        try:
            target = paths.jobs_root() / "contact_sheet.png"
            jobs = [takes.job_of(strip) for strip in takes.all_takes(sequencer_scene(context))]
            review.contact_sheet([job for job in jobs if job.clip_mp4.is_file()], target)
        except (ProtocolError, RuntimeError, OSError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Written: {target}")
        if not bpy.app.background:
            bpy.ops.wm.path_open(filepath=str(target))
        return {"FINISHED"}


class SANAWM_OT_burn_in(_ComparesAClip, Operator):
    bl_idname = "sanawm.burn_in"
    bl_label = "Review Clip"
    bl_description = (
        "Write the clip with shot, take, seed, preset, lens and timecode in the picture, beside its job"
    )
    bl_options = {"INTERNAL"}

    def use(self, context: Context, job: JobFolder) -> None:
        target = job.path.parent / f"{job.name}-review.mp4"
        review.burn_in(bpy.data.scenes.get(job.source().scene) or context.scene, job, target)
        self.report({"INFO"}, f"Written: {target}")
