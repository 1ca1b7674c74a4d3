# SPDX-License-Identifier: GPL-3.0-or-later
"""How to make it; making it; what became of it."""

from __future__ import annotations

import time

from bpy.types import Context, Panel, UILayout

from ...backend.protocol import FPS, JobState
from .. import session, shots
from ..compare import live, wipe, wireframe
from ..compare.overlay import overlay_of, shown_overlay
from ..followed_job import FollowedJob
from ..properties import presets, shot_settings
from .parts import SidebarPanel, draw_online_access, draw_sentence, duration_in_words, reads_prompt

_STAGES = {
    "prompts": "Reading the prompt",
    "condition": "Following the camera",
    "denoise": "Denoising",
    "refine": "Refining",
    "render": "Making frames",
    "write": "Writing the clip",
    "match": "Matching the camera",
}


class SANAWM_PT_clip(SidebarPanel, Panel):
    bl_idname = "SANAWM_PT_clip"
    bl_label = "Clip"

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = shot_settings(context.scene)
        layout.prop(settings, "preset")
        layout.prop(settings, "seed")
        if not reads_prompt(presets().get(settings.preset)):
            draw_sentence(
                layout,
                context,
                "The embedded model does not read the prompt: it is guided by the blockout's geometry.",
                icon="INFO",
            )
        job = session.latest_job(context.scene)
        if job and job.is_active:
            _draw_progress(layout, context, job)
        else:
            _draw_findings(layout, context)
            _draw_generate(layout, context)
            if job:
                _draw_outcome(layout, context, job)
        for stray in session.supervisor.strays():
            draw_sentence(layout, context, _stray_in_words(stray), icon="ERROR")


def _draw_generate(layout: UILayout, context: Context) -> None:
    row = layout.row(align=True)
    row.scale_y = 1.5
    row.operator("sanawm.generate", icon="RENDER_ANIMATION")
    row.operator("sanawm.check_shot", text="", icon="VIEWZOOM")
    obstacle, no_backend = shots.obstacle(shot_settings(context.scene)), shots.backend_obstacle()
    if obstacle and obstacle != no_backend:
        draw_sentence(layout, context, obstacle, icon="ERROR")
        if obstacle == shots.weights_obstacle(shot_settings(context.scene)):
            layout.operator("sanawm.show_weights", icon="PREFERENCES")
    if no_backend:
        _draw_set_up(layout, context, no_backend)


def _draw_set_up(layout: UILayout, context: Context, no_backend: str) -> None:
    if session.is_setting_up():
        layout.progress(factor=session.setup.fraction, text=session.setup.message)
        layout.operator("sanawm.cancel_set_up", icon="CANCEL")
        return
    has_failed = session.setup is not None and session.setup.outcome == "failed"
    draw_sentence(layout, context, session.setup.message if has_failed else no_backend, icon="ERROR")
    draw_online_access(layout)
    row = layout.row()
    row.operator("sanawm.set_up_backend", icon="IMPORT")
    if has_failed:
        row.operator("sanawm.open_set_up_log", text="", icon="TEXT")


def _draw_findings(layout: UILayout, context: Context) -> None:
    for finding in shots.current_findings(context):
        draw_sentence(layout, context, finding.name, icon="ERROR" if finding.is_error else "INFO")


def _draw_progress(layout: UILayout, context: Context, job: FollowedJob) -> None:
    layout.progress(factor=job.fraction(time.time()), text=_progress_in_words(job))
    row = layout.row()
    row.scale_y = 1.5
    cancelling = job.folder.cancel_requested()
    row.operator("sanawm.cancel", text="Cancelling" if cancelling else "Cancel", icon="CANCEL")
    if session.supervisor.trouble:
        draw_sentence(layout, context, session.supervisor.trouble, icon="ERROR")
    for warning in job.warnings:
        draw_sentence(layout, context, warning, icon="INFO")
    if job.growing_clip:
        _draw_growing(layout, context, job)


def _draw_growing(layout: UILayout, context: Context, job: FollowedJob) -> None:
    # As in the camera path, whose last sample ends it: 961 frames are 60 s.
    made_s, all_s = ((frames - 1) / FPS for frames in (job.frames_made, job.frames_in_all))
    layout.label(text=f"{made_s:.1f} of {all_s:.1f} s made")
    row = layout.row(align=True)
    row.prop(context.window_manager.sana_wm_view, "is_live", icon="IMAGE_BACKGROUND", toggle=True)
    row.operator("sanawm.watch_clip", text="Watch", icon="PLAY")
    picture = live.latest_frame_icon(job)
    if picture:
        layout.template_icon(icon_value=picture, scale=8)


def _progress_in_words(job: FollowedJob) -> str:
    if job.record.state != JobState.RUNNING or not job.stage:
        return job.record.reason.rstrip(".")
    if job.has_lost_its_worker:
        return "The worker stopped; another one goes on"
    words = _STAGES.get(job.stage, job.stage.replace("_", " ").capitalize())
    if job.stage == "denoise":
        words += f" {job.step}/{job.steps}"
    if job.seconds_left is not None:
        words += f", {duration_in_words(job.seconds_left)} left"
    return words


def _draw_outcome(layout: UILayout, context: Context, job: FollowedJob) -> None:
    sentence, icon = _outcome_in_words(job)
    draw_sentence(layout, context, sentence, icon)
    if job.is_done:
        _draw_comparison(layout, context)
    row = layout.row()
    row.operator("sanawm.show_job_folder", text="Job Folder", icon="FILE_FOLDER")
    row.operator("sanawm.open_log", icon="TEXT")


def _draw_comparison(layout: UILayout, context: Context) -> None:
    shown = shown_overlay(context.scene)
    row = layout.row(align=True)
    row.operator("sanawm.overlay", icon="IMAGE_BACKGROUND", depress=shown is not None)
    row.operator("sanawm.wipe", icon="ARROW_LEFTRIGHT", depress=wipe.active is not None)
    row.operator("sanawm.wireframe", text="Edges", icon="SHADING_WIRE", depress=wireframe.is_on(context))
    if shown is not None:
        layout.prop(overlay_of(shown), "alpha", text="Overlay", slider=True)


def _stray_in_words(job: FollowedJob) -> str:
    made = f"{job.name} is being made for the scene {job.scene_name}, which is no longer in this file"
    return job.trouble or made


def _outcome_in_words(job: FollowedJob) -> tuple[str, str]:
    """A sentence and its icon."""
    if job.trouble:
        return job.trouble, "ERROR"
    if job.is_done and not job.is_settled:
        return f"{job.name} is done and will be placed as soon as Blender is at rest", "INFO"
    if job.is_done:
        return f"{job.name} was placed in the sequencer: {job.record.reason}", "CHECKMARK"
    if job.record.state == JobState.FAILED:
        return f"{job.name} failed: {job.record.reason}", "ERROR"
    return f"{job.name} was cancelled", "INFO"
