# SPDX-License-Identifier: GPL-3.0-or-later
"""Every difference between Blender 4.2 and 5.2 that we meet, and nothing else."""

from __future__ import annotations

from typing import Any

import bpy
import gpu
from bpy.types import Context, ImageFormatSettings, Scene, SequenceEditor, UILayout

# From 4.5 on, a path property must say so, or the field turns red at the // of the .blend's folder.
BLEND_RELATIVE = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5) else set()


def still_image_settings(image: ImageFormatSettings) -> list[tuple[Any, str, str]]:
    """From 5.0 on, a still format can be chosen only under the media type of stills."""
    return [(image, "media_type", "IMAGE")] if hasattr(image, "media_type") else []


def multilayer_settings(image: ImageFormatSettings) -> list[tuple[Any, str, str]]:
    """From 5.0 on, files with all passes of a render lie under a media type of their own."""
    return [(image, "media_type", "MULTI_LAYER_IMAGE")] if hasattr(image, "media_type") else []


def single_part_settings(image: ImageFormatSettings) -> list[tuple[Any, str, bool]]:
    """From 5.0 on, each pass becomes a part of its own unless the passes are interleaved, as they were before."""
    return [(image, "use_exr_interleave", True)] if hasattr(image, "use_exr_interleave") else []


def set_movie_output(image: ImageFormatSettings) -> None:
    """Choose FFmpeg, which from 5.0 on lies under the media type of movies."""
    if hasattr(image, "media_type"):
        image.media_type = "VIDEO"
    image.file_format = "FFMPEG"


def strips(editor: SequenceEditor) -> Any:
    """The top-level strips: called sequences before 4.4."""
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def shown_strips(editor: SequenceEditor) -> Any:
    """The strips in the sequencer's timeline: those of a meta strip while it is open."""
    return strips(editor.meta_stack[-1] if editor.meta_stack else editor)


def strip_extent(strip: Any) -> tuple[int, int]:
    """First frame of a strip and the frame after its last: renamed in 5.1, gone under the old name in 6.0."""
    if hasattr(strip, "left_handle"):
        return int(strip.left_handle), int(strip.right_handle)
    return strip.frame_final_start, strip.frame_final_end


def strip_content_start(strip: Any) -> float:
    """The scene frame of the content's first frame, which trimming does not move: renamed in 5.1."""
    return float(strip.content_start if hasattr(strip, "content_start") else strip.frame_start)


def strip_content_trim(strip: Any) -> int:
    """Frames cut off the beginning of the content before it is placed: renamed in 5.1."""
    return strip.content_trim_start if hasattr(strip, "content_trim_start") else strip.animation_offset_start


def set_strip_end(strip: Any, frame: int) -> None:
    """Trim or extend a strip so that `frame` is the first one after it."""
    setattr(strip, "right_handle" if hasattr(strip, "right_handle") else "frame_final_end", frame)


def set_strip_start(strip: Any, frame: int) -> None:
    """Trim or extend a strip so that `frame` is its first one; its content stays in place."""
    setattr(strip, "left_handle" if hasattr(strip, "left_handle") else "frame_final_start", frame)


def new_speed_effect(editor: SequenceEditor, name: str, channel: int, source: Any) -> Any:
    """A speed effect over the whole of `source`; its arguments were renamed in 4.4 and in 5.0."""
    start, end = strip_extent(source)
    arguments: dict[str, Any] = {"name": name, "type": "SPEED", "channel": channel, "frame_start": start}
    if bpy.app.version >= (5, 0):
        arguments |= {"length": end - start, "input1": source}
    elif bpy.app.version >= (4, 4):
        arguments |= {"frame_end": end, "input1": source}
    else:
        arguments |= {"frame_end": end, "seq1": source}
    return strips(editor).new_effect(**arguments)


def new_text(editor: SequenceEditor, name: str, channel: int, start: int, end: int) -> Any:
    """A text strip; the argument for its end was renamed in 5.0."""
    extent = {"length": end - start} if bpy.app.version >= (5, 0) else {"frame_end": end}
    return strips(editor).new_effect(name=name, type="TEXT", channel=channel, frame_start=start, **extent)


def align_text(text: Any, across: str, along: str) -> None:
    """Which point of a text stands at its location: LEFT, CENTER, RIGHT and TOP, CENTER, BOTTOM; renamed in 4.4."""
    if hasattr(text, "anchor_x"):
        text.anchor_x, text.anchor_y, text.alignment_x = across, along, across
    else:
        text.align_x, text.align_y = across, along


def image_shader() -> gpu.types.GPUShader:
    """Draws an image's texture, which is scene linear: before 5.0 the viewport's framebuffer makes sRGB of it."""
    is_explicit = bpy.app.version >= (5, 0)
    return gpu.shader.from_builtin("IMAGE_SCENE_LINEAR_TO_REC709_SRGB" if is_explicit else "IMAGE")


def sequencer_scene(context: Context) -> Scene:
    """The scene whose strips the sequencer shows: from 5.0 on the workspace's own choice."""
    return getattr(context, "sequencer_scene", None) or context.scene


def fcurves(owner: Any) -> list[Any]:
    """The animation curves of a data-block: in the slot's bag of channels from 4.4 on, else in the action."""
    animation = owner.animation_data
    if animation is None or animation.action is None:
        return []
    if not hasattr(animation, "action_slot"):
        return list(animation.action.fcurves)
    bags = (
        strip.channelbag(animation.action_slot) for layer in animation.action.layers for strip in layer.strips
    )
    return [curve for bag in bags if bag is not None for curve in bag.fcurves]


def show_in_sequencer(scene: Scene) -> None:
    """From 5.0 on a workspace chooses its sequencer scene; where none is chosen, choose this one."""
    for window in bpy.context.window_manager.windows:
        workspace = window.workspace
        if getattr(workspace, "sequencer_scene", scene) is None:
            workspace.sequencer_scene = scene


def look_at_in_sequencer(context: Context, scene: Scene) -> None:
    """Show a scene's strips: from 5.0 on a workspace chooses its sequencer scene, before that it is the window's."""
    if hasattr(context.workspace, "sequencer_scene"):
        context.workspace.sequencer_scene = scene
    else:
        context.window.scene = scene


def textbox(layout: UILayout, data: Any, name: str, placeholder: str) -> None:
    """A text of several lines, which only 5.2 can draw, and without a label; before, one line."""
    if hasattr(layout, "textbox"):
        layout.label(text=data.bl_rna.properties[name].name)
        layout.textbox(data, name, initial_visible_lines=3, placeholder=placeholder)
    else:
        layout.prop(data, name, placeholder=placeholder)
