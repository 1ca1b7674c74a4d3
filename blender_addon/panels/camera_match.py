# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the clip follows its camera, in words."""

from __future__ import annotations

from bpy.types import Context, Panel, UILayout

from ...backend.protocol import CameraMatch, JobFolder
from ...backend.protocol.camera_match import clock
from .. import verdicts
from ..clip_records import seconds_of
from ..compare.looked_at import job_looked_at
from ..compare.match_path import is_shown_of
from ..compare.stretches import STRETCH_S, Stretch, stretches
from .parts import SidebarPanel, draw_sentence

# Of the button that goes to a moment, and of the box around the lines.
_JUMP_PX = 90


class SANAWM_PT_camera_match(SidebarPanel, Panel):
    bl_idname = "SANAWM_PT_camera_match"
    bl_label = "Camera Match"

    @classmethod
    def poll(cls, context: Context) -> bool:
        return job_looked_at(context.scene) is not None

    def draw(self, context: Context) -> None:
        job = job_looked_at(context.scene)
        self.layout.label(text=job.name, icon="SEQUENCE")
        row = self.layout.row(align=True)
        row.operator("sanawm.match_path", icon="CON_FOLLOWPATH", depress=is_shown_of(job))
        row.operator("sanawm.camera_from_match", text="", icon="OUTLINER_OB_CAMERA")
        draw_match(self.layout, context, job)


def draw_match(layout: UILayout, context: Context, job: JobFolder, place: str = "SHOT") -> None:
    """The verdict of a clip and every number behind it.

    Args:
        layout: of the panel itself.
        place: where its moments are looked at: "SHOT", where it was filmed, or "TAKE", the active strip.
    """
    match = verdicts.match_of(job)
    if match is None:
        draw_sentence(layout, context, "Made before clips were measured.", icon="QUESTION")
        return
    draw_sentence(layout, context, verdicts.sentence(match), icon=verdicts.ICONS[match.verdict()])
    if match.unmeasured:
        return
    _draw_numbers(layout.box(), context, match, place)
    if match.duration_s > STRETCH_S:
        header, body = layout.panel("SANAWM_PT_match_stretches", default_closed=True)
        header.label(text=f"Every {STRETCH_S} s")
        if body:
            _draw_stretches(body, stretches(match, seconds_of(job)), place)


def _draw_numbers(layout: UILayout, context: Context, match: CameraMatch, place: str) -> None:
    column = layout.column(align=True)
    for number in match.judged():
        icon = verdicts.ICONS[number.verdict]
        if number.at_s is None:
            draw_sentence(column, context, f"{number.name}: {number.words}", icon)
            continue
        row, words = column.row(), number.words.removesuffix(f" at {clock(number.at_s)}")
        draw_sentence(row, context, f"{number.name}: {words}", icon, beside_px=_JUMP_PX)
        _draw_jump(row, number.at_s, place)
    if match.revisit_db is not None:
        words = f"Comes back to the same picture within {match.revisit_db:.0f} dB"
        draw_sentence(column, context, words, icon="BLANK1")


def _draw_stretches(layout: UILayout, rows: list[Stretch], place: str) -> None:
    column = layout.column(align=True)
    for stretch in rows:
        row = column.row()
        _draw_jump(row, stretch.start_s, place, "LEFT")
        row.label(text=stretch.in_words(), icon=verdicts.ICONS[stretch.verdict])


def _draw_jump(layout: UILayout, clip_s: float, place: str, alignment: str = "RIGHT") -> None:
    side = layout.row()
    side.alignment = alignment
    jump = side.operator("sanawm.jump_to_moment", text=clock(clip_s))
    jump.clip_s, jump.place = clip_s, place
