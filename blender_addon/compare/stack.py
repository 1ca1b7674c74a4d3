# SPDX-License-Identifier: GPL-3.0-or-later
"""A clip and its blockout over each other in a sequencer of their own: their difference, or half of each.

A sequencer cannot show the scene that it belongs to, so the two meet in a scene that exists for nothing else. The
artist's own scene and edit are not touched.
"""

from __future__ import annotations

from typing import Any

import bpy
from bpy.types import Object, Scene

from ...backend.protocol import JobFolder
from .. import compat
from ..camera import render_size
from ..sequencer import place_clip
from .looked_at import filming_camera
from .registration import clip_area

MARK = "sana_wm_compares"
BLENDS = {"DIFFERENCE": ("DIFFERENCE", 1.0), "HALF": ("ALPHA_OVER", 0.5)}
# The colour space that a view transform ends in: a clip is read in it, so that the blockout and the clip, whose first
# frame was a picture with this transform, come out of the sequencer alike.
_VIEWED = {"Standard": "sRGB", "Filmic": "Filmic sRGB", "AgX": "AgX Base sRGB"}
_RENDER_SETTINGS = ("pixel_aspect_x", "pixel_aspect_y", "fps", "fps_base")


def comparison_of(film: Scene) -> Scene | None:
    """The scene that compares a clip of this one, if there is one."""
    return next((scene for scene in bpy.data.scenes if scene.get(MARK) == film.name), None)


def compare(film: Scene, job: JobFolder, blend: str) -> Scene:
    """Lay the blockout over a finished job's clip; an earlier comparison of the scene gives way.

    Args:
        blend: one of BLENDS.

    Raises:
        ProtocolError: the job has no clip, Blender cannot read it, or its camera is not in the file.
    """
    camera = filming_camera(job)
    remove_comparison(film)
    scene = bpy.data.scenes.new(f"Compare {job.name}")
    try:
        scene[MARK] = film.name
        for name in _RENDER_SETTINGS:
            setattr(scene.render, name, getattr(film.render, name))
        # The film's own pixels: a strip's crop counts in those, whatever the film's percentage.
        scene.render.resolution_x, scene.render.resolution_y = render_size(film)
        scene.render.resolution_percentage = 100
        scene.render.engine = film.render.engine
        _see_as(scene, film)
        scene.frame_start, scene.frame_end = film.frame_start, film.frame_end
        take = place_clip(scene, job)
        _read_as_viewed(take, scene)
        blockout = _add_blockout(scene, film, camera, take, job.clip().image_size)
        blockout.blend_type, blockout.blend_alpha = BLENDS[blend]
        scene.sequence_editor.active_strip = take  # the panel goes on showing it
    except BaseException:
        bpy.data.scenes.remove(scene)
        raise
    scene.frame_set(film.frame_current)
    return scene


def remove_comparison(film: Scene) -> bool:
    """Delete the scene that compares, with all that is in it; whether there was one."""
    scene = comparison_of(film)
    if scene is not None:
        bpy.data.scenes.remove(scene)
    return scene is not None


def _see_as(scene: Scene, film: Scene) -> None:
    for name in ("view_transform", "look", "exposure", "gamma"):
        setattr(scene.view_settings, name, getattr(film.view_settings, name))


def _read_as_viewed(take: Any, scene: Scene) -> None:
    space = _VIEWED.get(scene.view_settings.view_transform)
    if space is None or scene.view_settings.look != "None":
        scene.view_settings.view_transform, space = "Standard", "sRGB"
    take.colorspace_settings.name = space


def _add_blockout(scene: Scene, film: Scene, camera: Object, take: Any, clip_size: tuple[int, int]) -> Any:
    """A scene strip over the take, in step with the film's frames, cut to where the clip is."""
    strips, (start, end) = compat.strips(scene.sequence_editor), compat.strip_extent(take)
    strip = strips.new_scene(
        name="Blockout", scene=film, channel=take.channel + 2, frame_start=film.frame_start
    )
    strip.scene_input, strip.scene_camera = "CAMERA", camera
    compat.set_strip_start(strip, start)
    compat.set_strip_end(strip, end)
    area = clip_area(render_size(film), clip_size)
    strip.crop.min_x = strip.crop.max_x = round(area.left)
    strip.crop.min_y = strip.crop.max_y = round(area.bottom)
    return strip
