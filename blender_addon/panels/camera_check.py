# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model will think of the camera, before any clip is made."""

from __future__ import annotations

from bpy.types import Context, Panel, UILayout

from ...backend.protocol.camera_check import CUTS, LENS, SPEED, TURN
from ...backend.protocol.camera_match import Judged
from .. import camera_check, costs, remedies, verdicts
from ..camera_check import Report
from ..properties import shot_settings
from .parts import SidebarPanel, draw_sentence

_REMEDIES = {
    SPEED: ("sanawm.slow_down", "sanawm.scale_path"),
    TURN: ("sanawm.slow_down",),
    CUTS: ("sanawm.split_shot",),
}


class SANAWM_PT_camera_check(SidebarPanel, Panel):
    bl_idname = "SANAWM_PT_camera_check"
    bl_label = "Camera Check"

    def draw(self, context: Context) -> None:
        layout = self.layout
        row = layout.row(align=True)
        row.operator("sanawm.check_shot", text="Check Camera", icon="VIEWZOOM")
        row.prop(context.window_manager, "sana_wm_shows_check", text="", icon="CURVE_PATH")
        report = camera_check.current(context.scene)
        if report is not None:
            _draw_report(layout.box().column(align=True), context, report)
        elif remedies.must_be_split(shot_settings(context.scene)):
            layout.operator("sanawm.split_shot")  # such a shot cannot be followed
        draw_sentence(layout, context, costs.in_words(shot_settings(context.scene)), icon="TIME")


def _draw_report(layout: UILayout, context: Context, report: Report) -> None:
    for number in report.check.judged():
        _draw_number(layout, context, report, number)
        if number.verdict != "good":
            row = layout.row(align=True)
            for remedy in _REMEDIES.get(number.name, ()):
                row.operator(remedy)
    if not report.collisions:
        layout.label(text="Free of the geometry", icon=verdicts.ICONS["good"])
    for met in report.collisions:
        row = layout.row()
        row.label(text=met.in_words(), icon=verdicts.ICONS["look" if met.throughout else "bad"])
        row.operator("sanawm.go_to_frame", text="", icon="TIME", emboss=False).frame = met.frame


def _draw_number(layout: UILayout, context: Context, report: Report, number: Judged) -> None:
    row = layout.row()
    words = f"{number.name}: {number.words}"
    if number.name == LENS:
        low, high = (f"{mm:.0f}" for mm in report.lens_mm)
        words += f" ({low if low == high else f'{low} to {high}'} mm)"
    row.label(text=words, icon=verdicts.ICONS[number.verdict])
    if number.at_s is not None:
        jump = row.operator("sanawm.go_to_frame", text="", icon="TIME", emboss=False)
        jump.frame = report.frame_at(number.at_s, context.scene)
