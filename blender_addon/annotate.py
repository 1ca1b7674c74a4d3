# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender as annotator: cameras rendered to training clips with exact depth, pose and lens."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy
from bpy.types import Object, Scene, ViewLayer

from ..backend.protocol import CameraPath, ProtocolError, limits
from ..backend.protocol.annotation import (
    ENGINES,
    AnnotatedClip,
    ClipRecord,
    Summary,
    clip_starts,
    too_short,
)
from ..backend.protocol.clip_filter import why_unfit
from . import camera as cameras
from .depth_pass import exr_settings, read_depth
from .plain_render import Setting, overridden, plain_render, png_settings
from .properties import SANAWM_PG_shot
from .timeline import at_samples, playhead_kept, refuse_while_occupied, sample_count, scene_fps


@dataclass(frozen=True)
class AnnotationSettings:
    """How clips are made.

    Attributes:
        folder: where the clips' folders go.
        size: (width, height) of the pictures in pixels.
        frames: of each clip, 8k + 1.
        engine: a key of ENGINES.
        samples: per pixel, of Cycles; 0 for as many as the scene has.
    """

    folder: Path
    size: tuple[int, int]
    frames: int
    engine: str
    samples: int = 0


@dataclass(frozen=True)
class FilmedRange:
    """A camera and the scene frames that it films, both inclusive."""

    name: str
    camera: Object
    frame_start: float
    frame_end: float
    caption: str


def ranges_of_shots(scene: Scene, shots: list[SANAWM_PG_shot], summary: Summary) -> list[FilmedRange]:
    """The cameras and ranges of listed shots; those without a camera are left out."""
    ranges: dict[str, FilmedRange] = {}
    for shot in shots:
        label = _plain(shot.code)
        if label in ranges:
            _leave_out(summary, label, "another shot has this code; give each its own.")
            continue
        start, end = shot.range_of(scene)
        try:
            camera = cameras.shot_camera(scene, shot.camera, start, end)
        except ProtocolError as error:
            _leave_out(summary, label, error)
            continue
        ranges[label] = FilmedRange(label, camera, start, end, shot.prompt_in_full())
    return list(ranges.values())


def ranges_of_cameras(scene: Scene, names: list[str], frames: tuple[int, int] | None) -> list[FilmedRange]:
    """Cameras of the scene by name, or all of them, each over the same range.

    Raises:
        ProtocolError: there is no such camera, or none at all.
    """
    found = {obj.name: obj for obj in scene.objects if obj.type == "CAMERA"}
    missing = [name for name in names if name not in found]
    if missing or not found:
        there = f"its cameras: {', '.join(sorted(found))}" if found else "it has none"
        raise ProtocolError(
            f"The scene {scene.name} has no camera {', '.join(missing) or 'to film'}; {there}."
        )
    start, end = frames or (scene.frame_start, scene.frame_end)
    ranges: dict[str, FilmedRange] = {}
    for name in names or sorted(found):
        label = plain = _plain(name)
        number = 1
        while label in ranges:
            number += 1
            label = f"{plain}_{number}"
        ranges[label] = FilmedRange(label, found[name], start, end, scene.sana_wm.prompt_in_full())
    return list(ranges.values())


def annotate(
    scene: Scene,
    view_layer: ViewLayer,
    ranges: list[FilmedRange],
    settings: AnnotationSettings,
    summary: Summary,
) -> None:
    """Render every clip of every range that is not there yet; `summary` says what became of them.

    Raises:
        ProtocolError: a render failed, or Blender is playing or rendering.
        OSError: the folder cannot be written.
    """
    refuse_while_occupied()
    settings.folder.mkdir(parents=True, exist_ok=True)
    for filmed in ranges:
        try:
            clips = list(_clips(scene, view_layer, filmed, settings))
        except ProtocolError as error:
            _leave_out(summary, filmed.name, error)
            continue
        for name, frame_start, path in clips:
            reason = why_unfit(path)
            if reason:
                _leave_out(summary, name, reason)
                continue
            clip = AnnotatedClip(settings.folder / name)
            if not clip.is_finished:
                with playhead_kept(scene):
                    _render(scene, view_layer, filmed.camera, frame_start, path, clip, settings)
                clip.finish(_record(scene, filmed, frame_start, settings))
            summary.clips.append(name)
            print(f"{name}: done", flush=True)
    summary.save(settings.folder)


def _clips(
    scene: Scene, view_layer: ViewLayer, filmed: FilmedRange, settings: AnnotationSettings
) -> Iterator[tuple[str, float, CameraPath]]:
    """Name, first scene frame and camera of the clips of a range. Raises ProtocolError."""
    count = sample_count(scene, filmed.frame_start, filmed.frame_end)
    starts = clip_starts(count, settings.frames)
    if not starts:
        raise ProtocolError(too_short(count, settings.frames))
    with overridden(_size_settings(scene, settings.size)):
        for start in starts:
            frame = filmed.frame_start + start * scene_fps(scene) / limits.FPS
            path = cameras.export_camera(scene, view_layer, filmed.camera, frame, settings.frames)
            yield f"{filmed.name}-f{_short(frame)}", frame, path


def _render(
    scene: Scene,
    view_layer: ViewLayer,
    camera: Object,
    frame_start: float,
    path: CameraPath,
    clip: AnnotatedClip,
    settings: AnnotationSettings,
) -> None:
    missing = clip.begin(path)
    passes = clip.folder / "passes.exr"
    metres = scene.unit_settings.scale_length
    more = [
        *_size_settings(scene, settings.size),
        (view_layer, "use_pass_z", True),
        (camera.data.dof, "use_dof", False),  # what is blurred has no one depth
        (scene.render, "use_persistent_data", True),
        *exr_settings(scene.render.image_settings),
    ]
    if settings.samples:
        more.append((scene.cycles, "samples", settings.samples))
    with plain_render(scene, view_layer, ENGINES[settings.engine], passes, more):
        scene.camera = camera
        for sample, _ in at_samples(scene, view_layer, frame_start, missing):
            try:
                bpy.ops.render.render(write_still=True, scene=scene.name)
            except RuntimeError as error:
                raise ProtocolError(f"{clip.folder.name} could not be rendered: {error}") from error
            if not passes.exists():
                raise ProtocolError(f"{clip.folder.name} could not be rendered; Blender's console says why.")
            result = next(image for image in bpy.data.images if image.type == "RENDER_RESULT")
            with overridden(png_settings(scene.render.image_settings)):
                result.save_render(str(clip.rgb(sample)), scene=scene)
            clip.save_depth(sample, read_depth(passes) * metres)
            passes.unlink()


def _leave_out(summary: Summary, name: str, reason: object) -> None:
    summary.left_out[name] = str(reason)
    print(f"{name} is left out: {reason}", file=sys.stderr)


def _size_settings(scene: Scene, size: tuple[int, int]) -> list[Setting]:
    render = scene.render
    return [
        (render, "resolution_x", size[0]),
        (render, "resolution_y", size[1]),
        (render, "resolution_percentage", 100),
        (render, "pixel_aspect_x", 1.0),
        (render, "pixel_aspect_y", 1.0),
    ]


def _record(
    scene: Scene, filmed: FilmedRange, frame_start: float, settings: AnnotationSettings
) -> ClipRecord:
    origin = {
        "blend": Path(bpy.data.filepath).name,
        "scene": scene.name,
        "camera": filmed.camera.name,
        "frame_start": frame_start,
        "scene_fps": scene_fps(scene),
        "engine": settings.engine,
        "blender": bpy.app.version_string,
    }
    return ClipRecord(filmed.caption, origin)


def _short(frame: float) -> str:
    """A scene frame as a part of a name: 122_5 for 122.5."""
    return f"{frame:.3f}".rstrip("0").rstrip(".").replace(".", "_")


def _plain(name: str) -> str:
    """As the names of folders and clips may be."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "camera"
