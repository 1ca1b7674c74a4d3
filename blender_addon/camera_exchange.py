# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras from other programs' files and from action strings as animated cameras of the scene, and back to files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy.types import Camera, Context, Object, Scene

from ..backend.protocol import FPS
from ..backend.protocol.camera_actions import CURRENT_KEYS, OLD_KEYS, action_path
from ..backend.protocol.camera_files import FORMATS, kind_of, read_recorded, write_camera
from ..backend.protocol.camera_parsing import Given
from ..backend.protocol.camera_recorded import Recorded, quaternions_from
from . import camera, compat, shots, timeline
from .properties import presets, shot_settings

_SENSOR_MM = 36.0
_LINEAR = 1  # in the numbers of Keyframe.interpolation
# Focal lengths and shifts this near to each other, in pixels, are one lens.
_SAME_LENS_PX = 1e-3


def import_camera(
    context: Context, path: Path, kind: str, fps: float, lens_mm: float
) -> tuple[Object, list[str]]:
    """A new camera that moves as the file says, from the first frame of the shot in the panel, which it films.

    Args:
        kind: a key of FORMATS, or "AUTO".
        fps: cameras a second, for files without times.
        lens_mm: focal length on a 36 mm sensor, for files without a lens.

    Returns:
        The camera, and a sentence for everything that the scene shows otherwise than the file.

    Raises:
        ProtocolError: the file is missing, damaged or of no known format.
    """
    scene = context.scene
    if kind == "AUTO":
        kind = kind_of(path)
    if kind == "COLMAP" and not path.is_dir():
        path = path.parent
    size = camera.render_size(scene)
    recorded = read_recorded(path, kind, Given(fps, size, _lens_of(lens_mm, size)))
    return _add_camera(scene, path.stem or path.name, recorded), _differences(scene, recorded)


def export_camera(context: Context, path: Path, kind: str) -> tuple[Path, int]:
    """Write the camera of the shot in the panel, sample by sample as its clip will show it.

    Returns:
        What was written, and how many samples it holds.

    Raises:
        ProtocolError: the camera cannot be followed, or the format cannot hold it.
        OSError: the file cannot be written.
    """
    settings, scene = shot_settings(context.scene), context.scene
    start, end = settings.range_of(scene)
    filming = camera.shot_camera(scene, settings.camera, start, end)
    count = shots.sample_count(settings, presets()[settings.preset])
    exported = camera.export_camera(scene, context.view_layer, filming, start, count)
    path = file_name(path, kind)
    write_camera(path, kind, exported)
    return path, count


def file_name(path: Path, kind: str) -> Path:
    """The path as files of this kind are called: with their suffix, SANA-WM's with "pose", COLMAP's as a folder."""
    path = path.with_suffix(FORMATS[kind].suffix)
    if kind == "SANA_WM" and "pose" not in path.stem:
        path = path.with_name(f"{path.stem}_pose{path.suffix}")
    return path


def camera_from_actions(context: Context, text: str, old_keys: bool, at_cursor: bool) -> Object:
    """A new camera that SANA-WM's own controls move, from where the shot's camera, or the 3D cursor, stands.

    As for the model, ahead is where the first picture looks, and the ground is level with it.

    Args:
        old_keys: the keys of SANA-WM's first release.
        at_cursor: start at the 3D cursor, looking along its y axis; else where the shot's camera stands at its
            first frame, with that camera's lens.

    Raises:
        ProtocolError: the text is no action string, or there is no camera to start from.
    """
    scene, settings = context.scene, shot_settings(context.scene)
    start, _end = settings.range_of(scene)
    size = camera.render_size(scene)
    lens = _lens_of(50.0, size)
    path = action_path(text, lens, size, OLD_KEYS if old_keys else CURRENT_KEYS)
    if at_cursor:
        cursor = np.array(scene.cursor.matrix)
        cursor[:3, 3] *= scene.unit_settings.scale_length
        first = cursor @ path.c2w[0]
    else:
        standing = camera.shot_camera(scene, settings.camera, start, start)
        seen = camera.export_camera(scene, context.view_layer, standing, start, 1)
        first, lens = seen.c2w[0], tuple(seen.intrinsics[0])
    c2w = first @ np.linalg.inv(path.c2w[0]) @ path.c2w
    times_s = np.arange(len(c2w)) / FPS
    return _add_camera(scene, "Actions", Recorded(c2w, np.tile(lens, (len(c2w), 1)), size, times_s))


def action_seconds(text: str) -> float:
    """How long an action string takes; ProtocolError if it is none."""
    return action_path(text, (1, 1, 1, 1), (2, 2)).duration_s


def keyed_camera(scene: Scene, name: str, recorded: Recorded, frames: np.ndarray) -> Object:
    """A new camera of this name or one like it, keyed at these N scene frames; between them it moves straight on."""
    keyed = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    scene.collection.objects.link(keyed)
    _key_poses(scene, keyed, recorded.c2w, frames)
    _key_lens(scene, keyed.data, recorded, frames)
    return keyed


def _add_camera(scene: Scene, name: str, recorded: Recorded) -> Object:
    """A camera that is keyed from the shot's first frame on; the shot films its whole move."""
    settings = shot_settings(scene)
    start, _end = settings.range_of(scene)
    frames = start + (recorded.times_s - recorded.times_s[0]) * timeline.scene_fps(scene)
    settings.camera = filming = keyed_camera(scene, name, recorded, frames)
    if len(frames) > 1:
        settings.range_source, settings.frame_start = "CUSTOM", start
        settings.frame_end = max(start, math.ceil(frames[-1] - 1e-3) - 1)
    return filming


def _lens_of(mm: float, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy in pixels of a focal length in millimetres on a sensor as wide as Blender's."""
    focal = mm / _SENSOR_MM * size[0]
    return focal, focal, size[0] / 2, size[1] / 2


def _key_poses(scene: Scene, filming: Object, c2w: np.ndarray, frames: np.ndarray) -> None:
    poses = camera.blender_poses(c2w, scene.unit_settings.scale_length)
    quaternions = quaternions_from(poses[:, :3, :3])
    # q and -q are one rotation, but not halfway between two keys.
    flips = (quaternions[1:] * quaternions[:-1]).sum(1) < 0
    quaternions[1:] *= np.where(np.logical_xor.accumulate(flips), -1, 1)[:, None]
    filming.rotation_mode = "QUATERNION"
    _key(filming, "location", poses[:, :3, 3], frames)
    _key(filming, "rotation_quaternion", quaternions, frames)


def _key_lens(scene: Scene, data: Camera, recorded: Recorded, frames: np.ndarray) -> None:
    """What `camera.export_camera` reads from a lens, in reverse, for a camera as wide as the picture."""
    width, height = recorded.image_size
    aspect = scene.render.pixel_aspect_x / scene.render.pixel_aspect_y
    fx, _fy, cx, cy = recorded.intrinsics.T
    data.sensor_fit, data.sensor_width = "HORIZONTAL", _SENSOR_MM
    lens = {
        "lens": fx / width * data.sensor_width,
        "shift_x": (width / 2 - cx) / width,
        "shift_y": (cy - height / 2) / width / aspect,
    }
    for name, values in lens.items():
        setattr(data, name, values[0])
        unit_px = width / data.sensor_width if name == "lens" else width
        if np.ptp(values) * unit_px > _SAME_LENS_PX:
            _key(data, name, values[:, None], frames)


def _key(owner: Any, path: str, values: np.ndarray, frames: np.ndarray) -> None:
    """Straight lines between values (N, C) of a property of C channels, at N frames."""
    setattr(owner, path, values[0] if values.shape[1] > 1 else values[0, 0])
    owner.keyframe_insert(path, frame=frames[0])
    for curve in compat.fcurves(owner):
        if curve.data_path == path:
            points = curve.keyframe_points
            points.add(len(frames) - 1)
            table = np.column_stack([frames, values[:, curve.array_index]]).astype(np.float32)
            points.foreach_set("co", table.ravel())
            points.foreach_set("interpolation", np.full(len(frames), _LINEAR, np.int32))
            curve.update()


def _differences(scene: Scene, recorded: Recorded) -> list[str]:
    """Where the scene's picture is not the file's."""
    width, height = camera.render_size(scene)
    said, (theirs_x, theirs_y) = [], recorded.image_size
    if abs(width / height - theirs_x / theirs_y) > 0.01:
        said.append(
            f"The file's picture is {theirs_x}x{theirs_y} and the scene renders {width}x{height}: both are as wide, "
            "but not as high."
        )
    aspect = scene.render.pixel_aspect_x / scene.render.pixel_aspect_y
    if np.abs(recorded.intrinsics[:, 1] / recorded.intrinsics[:, 0] / aspect - 1).max() > 1e-3:
        said.append(
            "The file's pixels are not as square as the scene's; the horizontal field of view is kept."
        )
    return said
