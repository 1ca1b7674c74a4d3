# SPDX-License-Identifier: GPL-3.0-or-later
"""Several shots: the batch, and the jobs that wait, run or went wrong."""

from __future__ import annotations

import time

from bpy.types import Context, Panel, Scene, UILayout

from ...backend.protocol import JobState
from .. import session
from ..followed_job import FollowedJob
from ..operators.shot_list import list_scene
from ..properties import shot_settings
from .parts import SequencerPanel, SidebarPanel, draw_sentence

# More jobs than these are counted, not listed.
LISTED = 8


def has_batch(context: Context) -> bool:
    """Is there a list, or are there jobs of another scene of the file?"""
    supervisor = session.supervisor
    return bool(list_scene(context).sana_wm_shots or supervisor.at_work() or supervisor.queue())


def draw_batch(layout: UILayout, context: Context) -> None:
    scene = list_scene(context)
    if scene.sana_wm_shots:
        _draw_shots(layout, context, scene)
    draw_queue(layout, context)


def _draw_shots(layout: UILayout, context: Context, scene: Scene) -> None:
    grid = layout.grid_flow(columns=2, align=True, even_columns=True)
    for which, text in (("SELECTED", "Selected"), ("ALL", "All"), ("STALE", "Stale"), ("FAILED", "Failed")):
        grid.operator("sanawm.generate_shots", text=text, icon="RENDER_ANIMATION").which = which
    layout.operator("sanawm.look_for_changes", icon="FILE_REFRESH")
    settings = shot_settings(scene)
    layout.prop(settings, "takes", text=f"Takes of {settings.code}")


def draw_queue(layout: UILayout, context: Context) -> None:
    """The jobs of the open file that wait or run in their order, then those that went wrong last."""
    supervisor = session.supervisor
    running, waiting, wrong = supervisor.at_work(), supervisor.queue(), supervisor.went_wrong()
    for job in [*running, *waiting][:LISTED]:
        _draw_job(layout, job)
    more = len(running) + len(waiting) - LISTED
    if more > 0:
        layout.label(text=f"and {more} more")
    if len(waiting) > 1:
        layout.operator("sanawm.cancel_waiting", icon="X")
    for job in wrong[:LISTED]:
        row = layout.row(align=True)
        row.label(text=f"{job.name} {job.record.state}", icon="ERROR" if _failed(job) else "X")
        row.operator("sanawm.retry_job", text="", icon="FILE_REFRESH").job = job.request_id
        if _failed(job):
            draw_sentence(layout, context, job.record.reason)


def _draw_job(layout: UILayout, job: FollowedJob) -> None:
    row = layout.row(align=True)
    if job.is_queued:
        row.label(text=job.name, icon="TIME")
        for direction, icon in (("UP", "TRIA_UP"), ("DOWN", "TRIA_DOWN")):
            move = row.operator("sanawm.move_job", text="", icon=icon)
            move.job, move.direction = job.request_id, direction
    else:
        row.progress(factor=job.fraction(time.time()), text=job.name)
    row.operator("sanawm.cancel_job", text="", icon="X").job = job.request_id


def _failed(job: FollowedJob) -> bool:
    return job.record.state == JobState.FAILED


class SANAWM_PT_batch(SidebarPanel, Panel):
    bl_idname = "SANAWM_PT_batch"
    bl_label = "Batch"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        return has_batch(context)

    def draw(self, context: Context) -> None:
        draw_batch(self.layout, context)


class SANAWM_PT_batch_in_sequencer(SequencerPanel, Panel):
    bl_idname = "SANAWM_PT_batch_in_sequencer"
    bl_label = "Batch"

    @classmethod
    def poll(cls, context: Context) -> bool:
        return has_batch(context)

    def draw(self, context: Context) -> None:
        draw_batch(self.layout, context)
