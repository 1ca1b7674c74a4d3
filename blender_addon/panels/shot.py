# SPDX-License-Identifier: GPL-3.0-or-later
"""What to make."""

from __future__ import annotations

from bpy.types import Context, Panel, Scene, UILayout

from ...backend.protocol import FPS, Preset, ProtocolError, limits
from .. import camera, compat, shots, timeline
from ..properties import SANAWM_PG_shot, presets, shot_settings
from .parts import SidebarPanel, draw_sentence, reads_prompt


class SANAWM_PT_shot(SidebarPanel, Panel):
    bl_idname = "SANAWM_PT_shot"
    bl_label = "Shot"

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = shot_settings(context.scene)
        layout.prop(settings, "code")
        _draw_camera(layout, context, settings)
        _draw_range(layout, context, settings)
        _draw_first_frame(layout, settings)
        _draw_prompt(layout, settings)


def _draw_camera(layout: UILayout, context: Context, settings: SANAWM_PG_shot) -> None:
    row = layout.row(align=True)
    row.prop(settings, "camera")
    row.operator_menu_enum("sanawm.add_camera_move", "move", text="", icon="CON_CAMERASOLVER")
    if settings.camera is not None:
        return
    try:
        filming = camera.shot_camera(context.scene, None, *settings.range_of(context.scene))
    except ProtocolError as error:
        draw_sentence(layout, context, str(error), icon="ERROR")
    else:
        draw_sentence(layout, context, f"Scene camera: {filming.name}")


def _draw_range(layout: UILayout, context: Context, settings: SANAWM_PG_shot) -> None:
    layout.row().prop(settings, "range_source", expand=True)
    if settings.range_source == "CUSTOM":
        column = layout.column(align=True)
        column.prop(settings, "frame_start")
        column.prop(settings, "frame_end")
    preset = presets().get(settings.preset)
    if preset is None:
        return
    try:
        draw_sentence(layout, context, _length_in_words(context.scene, settings, preset))
    except ProtocolError as error:
        draw_sentence(layout, context, str(error), icon="ERROR")


def _length_in_words(scene: Scene, settings: SANAWM_PG_shot, preset: Preset) -> str:
    samples = shots.sample_count(settings, preset)
    start, end = settings.range_of(scene)
    frames, fps = end - start + 1, timeline.scene_fps(scene)
    range_s = frames / fps
    # The last sample may lie just behind the range; the strip ends with the range all the same.
    clip_s = min(range_s, samples / FPS)
    words = f"{frames} frames at {fps:g} fps ({range_s:.2f} s) give a clip of {clip_s:.2f} s"
    if range_s - clip_s <= 1 / FPS:
        return words
    step_s = limits.frame_stride(preset.variant) / FPS
    return f"{words}: this preset films in steps of {step_s:g} s, the last {range_s - clip_s:.2f} s stay out"


def _draw_first_frame(layout: UILayout, settings: SANAWM_PG_shot) -> None:
    layout.row().prop(settings, "first_frame_source", expand=True)
    if settings.first_frame_source == "IMAGE":
        layout.prop(settings, "first_frame_path")


def _draw_prompt(layout: UILayout, settings: SANAWM_PG_shot) -> None:
    column = layout.column()
    column.active = reads_prompt(presets().get(settings.preset))
    if settings.prompt_text is None:
        compat.textbox(column, settings, "prompt", placeholder="What the clip shows")
    column.prop(settings, "prompt_text")
