# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model will think of the camera, before any clip is made."""

from __future__ import annotations

from bpy.types import Context, Panel, UILayout

from ...backend.protocol import ProtocolError
from ...backend.protocol.camera_check import CUTS, LENS, SPEED, TURN
from ...backend.protocol.camera_match import Verdict
from ...backend.protocol.estimate import Estimate
from .. import camera_check, costs, remedies, verdicts
from ..camera_check import Report
from ..properties import SANAWM_PG_shot, shot_settings
from .parts import SidebarPanel, draw_sentence, duration_in_words

_REMEDIES = {
    SPEED: ("sanawm.slow_down", "sanawm.scale_path"),
    TURN: ("sanawm.slow_down",),
    CUTS: ("sanawm.split_shot",),
}


# Of the button that goes to a frame.
_JUMP_PX = 60


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
            _draw_report(layout.box().column(), context, report)
        elif remedies.must_be_split(shot_settings(context.scene)):
            layout.operator("sanawm.split_shot")  # such a shot cannot be followed
        settings = shot_settings(context.scene)
        expected = costs.expected(settings)
        if expected is not None and (expected.is_own or expected.seconds is not None):
            draw_sentence(layout, context, _cost_in_words(expected), icon="TIME")
        _draw_plan(layout, context, settings)


def _draw_plan(layout: UILayout, context: Context, settings: SANAWM_PG_shot) -> None:
    """What of the released model is in memory when, a stage a row."""
    try:
        plan = costs.planned(settings)
    except ProtocolError as error:
        draw_sentence(layout, context, str(error), icon="ERROR")
        return
    if plan is None:
        return
    budget = costs.budget()
    where = f"CPU ({budget.device_gb:.0f} GB free)"
    if not budget.is_cpu:
        where = f"{budget.device} ({budget.device_gb:.0f} GB)"
    box = layout.box().column(align=True)
    draw_sentence(box, context, f"Peak memory on the {where}", icon="MEMORY")
    for stage in plan.stages:
        name, rest = _halves(box, 0.38)
        name.label(text=stage.name)
        peak, time = _halves(rest, 0.38)
        peak.label(text=f"{stage.peak_gb:.1f} GB")
        time.label(text="" if stage.seconds is None else duration_in_words(stage.seconds))
    draw_sentence(box, context, plan.in_words())


def _halves(layout: UILayout, factor: float) -> tuple[UILayout, UILayout]:
    """Two columns of a row, the first one with this share of its width."""
    split = layout.split(factor=factor)
    return split.row(), split.row()


def _draw_report(layout: UILayout, context: Context, report: Report) -> None:
    for number in report.check.judged():
        words = f"{number.name}: {number.words}"
        if number.name == LENS:
            low, high = (f"{mm:.0f}" for mm in report.lens_mm)
            words += f", {low if low == high else f'{low} to {high}'} mm"
        frame = None if number.at_s is None else report.frame_at(number.at_s, context.scene)
        _draw_line(layout, context, words, number.verdict, frame)
        if number.verdict != "good" and (number.name == CUTS or not report.check.cuts):
            row = layout.row(align=True)
            for remedy in _REMEDIES.get(number.name, ()):
                row.operator(remedy)
    if not report.collisions:
        _draw_line(layout, context, "Free of the geometry", "good")
    for met in report.collisions:
        _draw_line(layout, context, met.in_words(), "look" if met.throughout else "bad", met.frame)


def _draw_line(
    layout: UILayout, context: Context, words: str, verdict: Verdict, frame: int | None = None
) -> None:
    """A finding, and a button that goes to its frame."""
    row = layout.row()
    draw_sentence(row, context, words, verdicts.ICONS[verdict], beside_px=0 if frame is None else _JUMP_PX)
    if frame is not None:
        side = row.row()
        side.alignment = "RIGHT"
        side.operator("sanawm.go_to_frame", text=f"{frame}").frame = frame


def _cost_in_words(expected: Estimate) -> str:
    needs = f"Takes {duration_in_words(expected.seconds)}"
    if expected.memory_mb is not None:
        needs += f" and {expected.memory_mb / 1000:.1f} GB of memory"
    origin = "as your last clip with this preset" if expected.is_own else "measured on one CPU core"
    return f"{needs} ({origin})."
