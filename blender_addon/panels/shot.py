# SPDX-License-Identifier: GPL-3.0-or-later
"""What to make."""

from __future__ import annotations

from bpy.types import Context, Panel, Scene, UILayout

from ...backend.protocol import FPS, ProtocolError
from .. import camera, compat
from ..properties import SANAWM_PG_shot, presets
from .parts import SidebarPanel, draw_sentence


class SANAWM_PT_shot(SidebarPanel, Panel):
    bl_idname = "SANAWM_PT_shot"
    bl_label = "Shot"

    def draw(self, context: Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        settings = context.scene.sana_wm
        layout.prop(settings, "code")
        _draw_camera(layout, context, settings)
        _draw_range(layout, context, settings)
        _draw_first_frame(layout, settings)
        _draw_prompt(layout, settings)


def _draw_camera(layout: UILayout, context: Context, settings: SANAWM_PG_shot) -> None:
    layout.prop(settings, "camera")
    if settings.camera is not None:
        return
    try:
        filming = camera.shot_camera(context.scene, None, *settings.range_of(context.scene))
    except ProtocolError as error:
        draw_sentence(layout, context, str(error), icon="ERROR")
    else:
        draw_sentence(layout, context, f"Filmed by the scene's camera, {filming.name}")


def _draw_range(layout: UILayout, context: Context, settings: SANAWM_PG_shot) -> None:
    layout.row().prop(settings, "range_source", expand=True)
    if settings.range_source == "CUSTOM":
        column = layout.column(align=True)
        column.prop(settings, "frame_start")
        column.prop(settings, "frame_end")
    draw_sentence(layout, context, _length_in_words(context.scene, settings))


def _length_in_words(scene: Scene, settings: SANAWM_PG_shot) -> str:
    start, end = settings.range_of(scene)
    preset = presets().get(settings.preset)
    try:
        samples = camera.sample_count(scene, start, end, preset.variant if preset else "bidirectional")
    except ProtocolError as error:
        return str(error)
    fps = camera.scene_fps(scene)
    return (
        f"{end - start + 1} frames at {fps:g} fps ({(end - start + 1) / fps:.2f} s) "
        f"give a clip of {samples / FPS:.2f} s"
    )


def _draw_first_frame(layout: UILayout, settings: SANAWM_PG_shot) -> None:
    layout.row().prop(settings, "first_frame_source", expand=True)
    if settings.first_frame_source == "IMAGE":
        layout.prop(settings, "first_frame_path")


def _draw_prompt(layout: UILayout, settings: SANAWM_PG_shot) -> None:
    column = layout.column()
    if settings.prompt_text is None:
        compat.textbox(column, settings, "prompt", placeholder="What the clip shows")
    column.prop(settings, "prompt_text")
