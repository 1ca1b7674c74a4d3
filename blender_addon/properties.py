# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scene remembers about its shot, and what a window forgets."""

from __future__ import annotations

import zlib
from functools import cache

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)
from bpy.types import Context, Object, PropertyGroup, Scene, Text, WindowManager

from ..backend.protocol import Preset, list_presets
from ..backend.protocol.shot_list import MAX_TAKES
from .compat import BLEND_RELATIVE
from .paths import EXTENSION_ROOT
from .shot_codes import next_code


@cache
def presets() -> dict[str, Preset]:
    """The quality presets that ship with the extension, by file stem."""
    return list_presets(EXTENSION_ROOT / "presets" / "quality")


def _preset_items() -> list[tuple[str, str, str, str, int]]:
    # Blender saves the number, so it must belong to the name and not to the order of the files.
    return [
        (stem, preset.name, preset.description, "NONE", zlib.crc32(stem.encode()) & 0x7FFFFFFF)
        for stem, preset in presets().items()
    ]


def _keep_code_unique(settings: SANAWM_PG_shot, _context: Context) -> None:
    """Two shots of a list with one code would share their jobs: the later one counts on."""
    scene = settings.id_data
    if settings == scene.sana_wm:
        return
    others = {shot.code for shot in scene.sana_wm_shots if shot != settings}
    if settings.code in others:
        settings.code = next_code(settings.code, others)


def _is_camera(_settings: SANAWM_PG_shot, candidate: Object) -> bool:
    return candidate.type == "CAMERA"


class SANAWM_PG_job(PropertyGroup):
    """A job that this scene asked for; `name` is the request id in its shot."""

    # A path as text, so that Save As to another folder leaves it where it points.
    folder: StringProperty(description="The job folder, absolute")
    is_placed: BoolProperty(description="The scene has received the clip once")


class SANAWM_PG_shot(PropertyGroup):
    """A shot of a scene, saved with the .blend; `name` is free text."""

    code: StringProperty(
        name="Shot Code",
        description="Names the job folder, the clip and the strip: letters, digits and underscores",
        default="010_0010",
        update=_keep_code_unique,
    )
    camera: PointerProperty(
        name="Camera",
        description="The camera that films the shot. Empty: the scene's active camera",
        type=Object,
        poll=_is_camera,
    )
    range_source: EnumProperty(
        name="Range",
        description="Which frames of the scene make the shot",
        items=(
            ("SCENE", "Scene", "From the scene's start frame to its end frame"),
            ("CUSTOM", "Custom", "From a start frame to an end frame of the shot's own"),
        ),
    )
    frame_start: IntProperty(name="Start", description="First scene frame of the shot", default=1)
    frame_end: IntProperty(name="End", description="Last scene frame of the shot, inclusive", default=121)
    prompt: StringProperty(name="Prompt", description="What the clip shows, in words")
    prompt_text: PointerProperty(
        name="Prompt Text",
        description="A text data-block that holds a long prompt and replaces the field above",
        type=Text,
    )
    negative_prompt: StringProperty(name="Negative Prompt", description="What the clip must not show")
    first_frame_source: EnumProperty(
        name="First Frame",
        description="The picture the clip begins with",
        items=(
            ("RENDER", "Blockout", "The blockout through the camera, in viewport colours"),
            ("IMAGE", "Image", "A picture file, painted or rendered from this camera at the first frame"),
        ),
    )
    first_frame_path: StringProperty(
        name="Image",
        description="The picture the clip begins with",
        subtype="FILE_PATH",
        options=BLEND_RELATIVE,
    )
    preset: EnumProperty(
        name="Preset",
        description="The model and its quality",
        items=_preset_items(),
    )
    seed: IntProperty(
        name="Seed", description="The same shot, seed and machine give the same clip", default=0, min=0
    )
    takes: IntProperty(
        name="Takes",
        description="How many clips a batch makes of this shot, each with the next seed",
        default=1,
        min=1,
        max=MAX_TAKES,
    )
    is_selected: BoolProperty(name="Selected", description="Part of the next batch", default=True)
    jobs: CollectionProperty(type=SANAWM_PG_job, options={"HIDDEN"})

    def range_of(self, scene: Scene) -> tuple[int, int]:
        """First and last scene frame of the shot, inclusive."""
        if self.range_source == "CUSTOM":
            return self.frame_start, self.frame_end
        return scene.frame_start, scene.frame_end

    def prompt_in_full(self) -> str:
        """The text data-block if there is one, else the field."""
        return (self.prompt_text.as_string() if self.prompt_text else self.prompt).strip()


def shot_settings(scene: Scene) -> SANAWM_PG_shot:
    """The shot that the panels show: the active one of the scene's list, or the scene's own where there is no list."""
    shots = scene.sana_wm_shots
    return shots[min(scene.sana_wm_shot_index, len(shots) - 1)] if shots else scene.sana_wm


class SANAWM_PG_finding(PropertyGroup):
    """One sentence of the last check; `name` is the sentence."""

    is_error: BoolProperty()


class SANAWM_PG_check(PropertyGroup):
    """The last check of a shot; not saved."""

    findings: CollectionProperty(type=SANAWM_PG_finding)
    subject: StringProperty(description="What was checked; findings about anything else are out of date")


def _redraw_sequencers(_view: SANAWM_PG_view, context: Context) -> None:
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "SEQUENCE_EDITOR":
                area.tag_redraw()


class SANAWM_PG_view(PropertyGroup):
    """What is drawn over Blender's editors; not saved."""

    shows_band: BoolProperty(
        name="Match Band",
        description="Colour every take second by second: green follows its camera, yellow is worth a look, "
        "red does not follow",
        default=True,
        update=_redraw_sequencers,
    )
    is_live: BoolProperty(
        name="Live",
        description="While a clip is made, lay what there is of it over the blockout, and the whole clip at the end",
    )
    curve: EnumProperty(
        name="Curve",
        update=_redraw_sequencers,
        description="The number whose course is drawn on every take",
        items=(
            ("NONE", "None", "No curve"),
            ("heading_deg", "Heading", "Angle between the camera of the clip and the planned one"),
            (
                "position_scaled_m",
                "Position",
                "Distance between the two, with the path drawn at its own scale",
            ),
            ("slide_px", "Slide", "How far the set has slid in the picture"),
            ("kept", "Points Kept", "Share of the blockout's points that the picture still shows"),
            ("sharpness", "Sharpness", "Sharpness beside the first second's"),
        ),
    )


_CLASSES = (SANAWM_PG_job, SANAWM_PG_shot, SANAWM_PG_finding, SANAWM_PG_check, SANAWM_PG_view)


def register() -> None:
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    # The jobs of all its shots are remembered in `sana_wm`, list or not.
    Scene.sana_wm = PointerProperty(type=SANAWM_PG_shot)
    Scene.sana_wm_shots = CollectionProperty(type=SANAWM_PG_shot)
    Scene.sana_wm_shot_index = IntProperty(name="Active Shot", min=0)
    WindowManager.sana_wm_check = PointerProperty(type=SANAWM_PG_check)
    WindowManager.sana_wm_view = PointerProperty(type=SANAWM_PG_view)


def unregister() -> None:
    del WindowManager.sana_wm_view
    del WindowManager.sana_wm_check
    del Scene.sana_wm_shot_index
    del Scene.sana_wm_shots
    del Scene.sana_wm
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
