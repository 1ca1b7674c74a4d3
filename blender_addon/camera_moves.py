# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera moves as a film crew names them, keyed on the shot's camera."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import bpy
import numpy as np
from bpy.types import FCurve, Object, Scene
from mathutils import Matrix

from ..backend.protocol import ProtocolError
from ..backend.protocol.camera_move import CameraMove, list_camera_moves
from . import camera_motion, compat
from .camera import blender_poses, opencv_poses
from .paths import EXTENSION_ROOT
from .timeline import playhead_kept, refuse_while_occupied, scene_fps

# Where nothing is in the middle of the picture, the camera's subject is taken to be this far away.
OPEN_DISTANCE_M = 5.0
# Moves along curves get a key for each quarter of a second, straight ones one at each end.
KEYS_PER_S = 4
SHAKE_PERIOD_S = 1.2
_TRANSFORMS = ("location", "rotation_euler")


@cache
def camera_moves() -> dict[str, CameraMove]:
    """The moves that ship with the extension, by file stem."""
    return list_camera_moves(EXTENSION_ROOT / "presets" / "camera_moves")


def key_move(
    scene: Scene,
    camera: Object,
    move: CameraMove,
    frames: tuple[int, int],
    strength: float = 1.0,
    eased: bool = True,
) -> None:
    """Key the move from the pose that the camera has at the first frame; its keys in the range are replaced.

    Args:
        frames: first and last scene frame of the move.
        strength: of the move; below 0 the other way.
        eased: start and stop softly instead of moving evenly.

    Raises:
        ProtocolError: the camera does not stand free, the range is empty, or Blender is playing or rendering.
    """
    camera_motion.refuse_unfree(camera)
    start, end = frames
    if end <= start:
        raise ProtocolError("A camera move needs at least two frames; make the range longer.")
    refuse_while_occupied()
    with playhead_kept(scene):
        scene.frame_set(start)
        depsgraph = bpy.context.evaluated_depsgraph_get()
        pose = camera.evaluated_get(depsgraph).matrix_world.normalized()
        lens, target_m = camera.data.lens, _target_distance_m(scene, pose)
        unit_scale = scene.unit_settings.scale_length
        begins = opencv_poses(np.array(pose, np.float64)[None], unit_scale)[0]
        camera.rotation_mode = "XYZ"
        _remove_keys(camera, _TRANSFORMS, frames)
        moves_lens = move.lens_factor != 1
        if moves_lens:
            _remove_keys(camera.data, ("lens",), frames)
        for frame, progress in _key_frames(move, start, end, scene_fps(scene), eased):
            rotation = camera.rotation_euler.copy()
            moved = move.pose(begins, strength * progress, target_m)
            now = Matrix(blender_poses(moved[None], unit_scale)[0].tolist())
            camera.location = now.translation
            # Next to the last key, so that a turn does not jump by 360 degrees.
            camera.rotation_euler = now.to_euler("XYZ", rotation)
            for path in _TRANSFORMS:
                camera.keyframe_insert(path, frame=frame)
            if moves_lens:
                camera.data.lens = lens * (1 + strength * progress * (move.lens_factor - 1))
                camera.data.keyframe_insert("lens", frame=frame)
    for curve in [*_curves(camera, _TRANSFORMS), *(_curves(camera.data, ("lens",)) if moves_lens else ())]:
        for point in curve.keyframe_points:
            if start <= point.co.x <= end:
                point.interpolation = "BEZIER" if eased or not move.is_straight else "LINEAR"
        curve.update()
    _shake(scene, camera, move, frames, strength)


def _key_frames(
    move: CameraMove, start: int, end: int, fps: float, eased: bool
) -> Iterator[tuple[float, float]]:
    """Scene frames and the share of the move, 0..1, that is done at each."""
    if move.is_straight:
        yield from ((start, 0.0), (end, 1.0))
        return
    intervals = max(1, round((end - start) / fps * KEYS_PER_S))
    for index in range(intervals + 1):
        share = index / intervals
        yield start + share * (end - start), share * share * (3 - 2 * share) if eased else share


def _target_distance_m(scene: Scene, pose: Matrix) -> float:
    """How far what is in the middle of the picture is from the camera."""
    ahead = -pose.col[2].to_3d().normalized()
    hit, place, *_ = scene.ray_cast(bpy.context.evaluated_depsgraph_get(), pose.translation, ahead)
    if not hit:
        return OPEN_DISTANCE_M
    return (place - pose.translation).length * scene.unit_settings.scale_length


def _curves(owner: Any, paths: tuple[str, ...]) -> list[FCurve]:
    return [curve for curve in compat.fcurves(owner) if curve.data_path in paths]


def _remove_keys(owner: Any, paths: tuple[str, ...], frames: tuple[int, int]) -> None:
    for curve in _curves(owner, paths):
        for point in reversed(curve.keyframe_points):
            if frames[0] <= point.co.x <= frames[1]:
                curve.keyframe_points.remove(point, fast=True)
        curve.update()
        for modifier in [m for m in curve.modifiers if _is_shake(m, frames)]:
            curve.modifiers.remove(modifier)


def _is_shake(modifier: Any, frames: tuple[int, int]) -> bool:
    """Made by an earlier move of the same range."""
    is_noise = modifier.type == "NOISE" and modifier.use_restricted_range
    return is_noise and (modifier.frame_start, modifier.frame_end) == frames


def _shake(scene: Scene, camera: Object, move: CameraMove, frames: tuple[int, int], strength: float) -> None:
    """An unsteady hand as noise on the curves, where an animator finds and changes it."""
    fps = scene_fps(scene)
    reach = {
        "location": move.shake_m / scene.unit_settings.scale_length,
        "rotation_euler": math.radians(move.shake_deg),
    }
    for curve in _curves(camera, _TRANSFORMS):
        if not reach[curve.data_path]:
            continue
        noise = curve.modifiers.new("NOISE")
        noise.blend_type, noise.strength = "ADD", abs(strength) * reach[curve.data_path]
        noise.scale, noise.phase = (
            SHAKE_PERIOD_S * fps,
            37.0 * curve.array_index + 11.0 * len(curve.data_path),
        )
        noise.use_restricted_range = True
        noise.frame_start, noise.frame_end = frames
        # The clip begins where the camera stands.
        noise.blend_in = noise.blend_out = min(fps / 2, (frames[1] - frames[0]) / 2)
