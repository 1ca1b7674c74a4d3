# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaves the file for a review: a contact sheet of takes, and a clip with its data burnt in.

Both are rendered by the sequencer of a scene that exists for that moment only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bpy
from bpy.types import Scene

from ...backend.protocol import JobFolder, ProtocolError
from .. import compat, verdicts
from ..sequencer import place_clip

CELL_WIDTH = 384
CAPTION_HEIGHT = 30
GAP = 6


def contact_sheet(jobs: list[JobFolder], target: Path) -> None:
    """First, middle and last frame of every clip, one row a clip, as a PNG file.

    Raises:
        ProtocolError: there is nothing to show, or a clip cannot be read.
    """
    if not jobs:
        raise ProtocolError("There is no clip to put on a contact sheet; generate one first.")
    clips = [job.clip() for job in jobs]
    heights = [round(CELL_WIDTH * clip.image_size[1] / clip.image_size[0]) for clip in clips]
    width = 3 * CELL_WIDTH + 4 * GAP
    height = sum(heights) + len(jobs) * (CAPTION_HEIGHT + GAP) + GAP
    with _scene_for_a_moment("Contact Sheet") as scene:
        render, channel, top = scene.render, 1, height - GAP
        render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
        for job, clip, cell_height in zip(jobs, clips, heights, strict=True):
            for column, frame in enumerate((0, clip.frame_count // 2, clip.frame_count - 1)):
                left = GAP + column * (CELL_WIDTH + GAP)
                channel += 1
                strip = _still(scene, job, frame, channel)
                strip.transform.scale_x = strip.transform.scale_y = CELL_WIDTH / clip.image_size[0]
                strip.transform.offset_x = left + CELL_WIDTH / 2 - width / 2
                strip.transform.offset_y = top - cell_height / 2 - height / 2
            top -= cell_height
            channel += 1
            text = _text(scene, _caption(job), channel, 1, 2, size=20)
            compat.align_text(text, "LEFT", "CENTER")
            text.location = (GAP / width, (top - CAPTION_HEIGHT / 2) / height)
            top -= CAPTION_HEIGHT + GAP
        scene.frame_start = scene.frame_end = 1
        _render_still(scene, target)


def burn_in(film: Scene, job: JobFolder, target: Path) -> None:
    """The clip at the film's rate and size, with shot, take, seed, preset, lens, frame and time in the picture.

    Args:
        target: the mp4 to write.

    Raises:
        ProtocolError: the job has no clip or Blender cannot read it.
    """
    with _scene_for_a_moment(f"Review {job.name}") as scene:
        render = scene.render
        for name in ("resolution_x", "resolution_y", "resolution_percentage", "fps", "fps_base"):
            setattr(render, name, getattr(film.render, name))
        take = place_clip(scene, job)
        start, end = compat.strip_extent(take)
        scene.frame_start, scene.frame_end = start, end - 1
        shot = job.shot()
        size = max(12, render.resolution_y // 36)
        note = f"{job.name}   seed {shot.seed}   {shot.preset.name}"
        text = _text(scene, note, take.channel + 2, start, end, size)
        compat.align_text(text, "LEFT", "TOP")
        text.location = (0.02, 0.97)
        sensor_px = shot.camera.image_size[0]
        lenses = [round(36 * float(fx) / sensor_px, 1) for fx in shot.camera.intrinsics[:, 0]]
        for first, after, lens in _runs(lenses, start, end, (end - start) / max(len(lenses) - 1, 1)):
            text = _text(scene, f"{lens:g} mm", take.channel + 3, first, after, size)
            compat.align_text(text, "RIGHT", "TOP")
            text.location = (0.98, 0.97)
        _stamp(render, size)
        _render_movie(scene, target)


def _runs(values: list[float], start: int, end: int, step: float) -> Iterator[tuple[int, int, float]]:
    """Scene frames from and to which each value of a sampled curve holds; `step` frames lie between two samples."""
    first, value = start, values[0]
    for index, following in enumerate(values[1:], 1):
        frame = start + round(index * step)
        if following != value and first < frame < end:
            yield first, frame, value
            first, value = frame, following
    yield first, end, value


def _caption(job: JobFolder) -> str:
    clip, match = job.clip(), verdicts.match_of(job)
    words = f"{job.name}   seed {clip.seed}   {clip.preset.get('name', '')}"
    return f"{words}   {match.in_words()}" if match else words


@contextmanager
def _scene_for_a_moment(name: str) -> Iterator[Scene]:
    """A scene with an empty sequencer, in the window while it is rendered; nothing of it stays."""
    window = bpy.context.window
    before = window.scene
    scene = bpy.data.scenes.new(name)
    try:
        scene.view_settings.view_transform = "Standard"
        scene.sequence_editor_create()
        window.scene = scene  # the sequencer follows the playhead in the window's scene alone
        yield scene
    finally:
        window.scene = before
        bpy.data.scenes.remove(scene)


def _still(scene: Scene, job: JobFolder, frame: int, channel: int) -> Any:
    """A movie strip that shows one frame of a clip at scene frame 1."""
    strips = compat.strips(scene.sequence_editor)
    strip = strips.new_movie(
        name=job.name,
        filepath=str(job.clip_mp4),
        channel=channel,
        frame_start=1 - frame,
        fit_method="ORIGINAL",
    )
    if not strip.elements or strip.elements[0].orig_width == 0:
        raise ProtocolError(f"Blender cannot read {job.clip_mp4}; generate the shot again.")
    compat.set_strip_start(strip, 1)
    compat.set_strip_end(strip, 2)
    strip.blend_type = "ALPHA_OVER"
    return strip


def _text(scene: Scene, words: str, channel: int, start: int, end: int, size: float) -> Any:
    text = compat.new_text(scene.sequence_editor, "Text", channel, start, end)
    text.text, text.font_size, text.blend_type = words, size, "ALPHA_OVER"
    text.color = (0.95, 0.95, 0.95, 1.0)
    text.use_shadow = True
    return text


def _stamp(render: Any, size: int) -> None:
    for name in dir(render):
        if name.startswith("use_stamp_"):
            setattr(render, name, name in ("use_stamp_frame", "use_stamp_time", "use_stamp_labels"))
    render.use_stamp, render.stamp_font_size = True, size


def _render_still(scene: Scene, target: Path) -> None:
    image = scene.render.image_settings
    for owner, name, value in compat.still_image_settings(image):
        setattr(owner, name, value)
    image.file_format, image.color_mode = "PNG", "RGB"
    scene.render.filepath = str(target)
    scene.frame_set(1)
    bpy.ops.render.render(write_still=True)


def _render_movie(scene: Scene, target: Path) -> None:
    compat.set_movie_output(scene.render.image_settings)
    ffmpeg = scene.render.ffmpeg
    ffmpeg.format, ffmpeg.codec, ffmpeg.constant_rate_factor = "MPEG4", "H264", "HIGH"
    scene.render.use_file_extension = False
    scene.render.filepath = str(target)
    bpy.ops.render.render(animation=True)
