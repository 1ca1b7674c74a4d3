# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the clip follows its camera, in words."""

from __future__ import annotations

from bpy.types import Context, Panel, UILayout

from ...backend.protocol import CameraMatch, JobFolder
from .. import draw_path, verdicts
from ..compare.looked_at import job_looked_at
from ..compare.match_path import ESTIMATED
from .parts import SidebarPanel, draw_sentence


class SANAWM_PT_camera_match(SidebarPanel, Panel):
    bl_idname = "SANAWM_PT_camera_match"
    bl_label = "Camera Match"

    @classmethod
    def poll(cls, context: Context) -> bool:
        return job_looked_at(context.scene) is not None

    def draw(self, context: Context) -> None:
        job = job_looked_at(context.scene)
        self.layout.label(text=job.name, icon="SEQUENCE")
        draw_match(self.layout, context, job)
        row = self.layout.row()
        row.operator("sanawm.match_path", icon="CON_FOLLOWPATH", depress=draw_path.is_shown(ESTIMATED))


def draw_match(layout: UILayout, context: Context, job: JobFolder) -> None:
    """The verdict of a clip and every number behind it."""
    match = verdicts.match_of(job)
    if match is None:
        draw_sentence(layout, context, "Made before clips were measured.", icon="QUESTION")
        return
    verdict = match.verdict()
    layout.label(text=verdicts.WORDS[verdict], icon=verdicts.ICONS[verdict])
    if match.unmeasured:
        draw_sentence(layout, context, match.unmeasured)
        return
    _draw_numbers(layout.box(), match)


def _draw_numbers(layout: UILayout, match: CameraMatch) -> None:
    column = layout.column(align=True)
    for number in match.judged():
        row = column.row()
        row.label(text=f"{number.name}: {number.words}", icon=verdicts.ICONS[number.verdict])
        if number.at_s is not None:
            row.operator("sanawm.jump_to_moment", text="", icon="TIME", emboss=False).clip_s = number.at_s
    if match.revisit_db is not None:
        column.label(text=f"Comes back to the same picture within {match.revisit_db:.0f} dB", icon="BLANK1")
