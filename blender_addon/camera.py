# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's evaluated camera -> CameraPath: the one place where Blender's axes and lens become OpenCV's, and back."""

from __future__ import annotations

import numpy as np
from bpy.types import Camera, Object, Scene, ViewLayer

from ..backend.protocol import CameraPath, ProtocolError
from .timeline import each_sample, playhead_kept, refuse_while_occupied

# Blender's cameras look along -z with +y up, OpenCV's along +z with +y down.
_OPENCV_FROM_BLENDER = np.diag([1.0, -1.0, -1.0, 1.0])
_KINDS = {"ORTHO": "orthographic", "PANO": "panoramic", "CUSTOM": "custom"}


def render_size(scene: Scene) -> tuple[int, int]:
    """(width, height) in pixels of what the scene renders, with its resolution percentage."""
    render = scene.render
    percentage = render.resolution_percentage
    return (
        max(1, render.resolution_x * percentage // 100),
        max(1, render.resolution_y * percentage // 100),
    )


def shot_camera(scene: Scene, chosen: Object | None, frame_start: float, frame_end: float) -> Object:
    """The camera that films the shot: the chosen one, or else the scene's at the first frame of the range.

    Markers that switch cameras count only while no camera is chosen.

    Raises:
        ProtocolError: there is no camera, or a marker switches to another one inside the range.
    """
    if chosen is not None:
        if chosen.type != "CAMERA":
            raise ProtocolError(f"{chosen.name} is not a camera; choose a camera for the shot.")
        return chosen
    switches = sorted(
        (m for m in scene.timeline_markers if m.camera and not m.camera.hide_render), key=lambda m: m.frame
    )
    # As Blender does it: before the first marker, the first marker's camera is active already.
    earlier = [marker for marker in switches if marker.frame <= frame_start] or switches[:1]
    camera = earlier[-1].camera if earlier else scene.camera
    if camera is None or camera.type != "CAMERA":
        raise ProtocolError(f"The scene {scene.name} has no camera; add one, or choose one for the shot.")
    for marker in switches:
        if frame_start < marker.frame <= frame_end and marker.camera != camera:
            raise ProtocolError(
                f"The marker {marker.name} at frame {marker.frame} cuts to the camera {marker.camera.name} "
                "inside the range; end the range before it, or choose one camera for the shot."
            )
    return camera


def export_camera(
    scene: Scene, view_layer: ViewLayer, camera: Object, frame_start: float, count: int
) -> CameraPath:
    """Sample a camera as it is evaluated: parents, constraints, drivers, animated lens and shift included.

    Args:
        camera: the shot's own camera; markers that switch the scene's camera do not matter.
        frame_start: scene frame of sample 0; sample i is taken i / 16 s of scene time later.
        count: number of samples.

    Returns:
        The path in metres (the scene's unit scale applied), intrinsics in pixels of the scene's render size.

    Raises:
        ProtocolError: not a perspective camera, not evaluated in this view layer, scaled unevenly by its
            parents, or Blender is playing or rendering.
    """
    refuse_while_occupied()
    width, height = size = render_size(scene)
    c2w = np.empty((count, 4, 4))
    intrinsics = np.empty((count, 4))
    with playhead_kept(scene):
        for index, depsgraph in each_sample(scene, view_layer, frame_start, count):
            evaluated = camera.evaluated_get(depsgraph)
            _check_kind(evaluated, camera.name)
            projection = np.array(
                evaluated.calc_matrix_camera(
                    depsgraph,
                    x=width,
                    y=height,
                    scale_x=scene.render.pixel_aspect_x,
                    scale_y=scene.render.pixel_aspect_y,
                )
            )
            intrinsics[index] = _intrinsics(projection, width, height)
            c2w[index] = _rigid(np.array(evaluated.matrix_world), camera.name)
    return CameraPath(opencv_poses(c2w, scene.unit_settings.scale_length), intrinsics, size)


def largest_step(scene: Scene, view_layer: ViewLayer, camera: Object, first: int, last: int) -> int:
    """Of the scene frames behind `first` up to `last` the one that the camera changes most in coming to."""
    poses = []
    with playhead_kept(scene):
        for frame in range(first, last + 1):
            scene.frame_set(frame)
            poses.append(np.array(camera.evaluated_get(view_layer.depsgraph).matrix_world))
    steps = np.abs(np.diff(poses, axis=0)).max((1, 2))
    return first + 1 + int(np.argmax(steps))


def opencv_poses(matrices: np.ndarray, unit_scale: float) -> np.ndarray:
    """(F, 4, 4) world matrices of a Blender camera, without scale -> c2w of OpenCV axes in metres.

    Args:
        unit_scale: metres per Blender unit.
    """
    poses = matrices @ _OPENCV_FROM_BLENDER
    poses[:, :3, 3] *= unit_scale
    return poses


def blender_poses(c2w: np.ndarray, unit_scale: float) -> np.ndarray:
    """(F, 4, 4) world matrices of a Blender camera for a path of OpenCV axes in metres: `opencv_poses` reversed.

    Args:
        unit_scale: metres per Blender unit.
    """
    poses = c2w @ _OPENCV_FROM_BLENDER
    poses[:, :3, 3] /= unit_scale
    return poses


def lens_mm(data: Camera, scene: Scene, focal_px: np.ndarray) -> np.ndarray:
    """Focal lengths in millimetres of a camera's sensor for horizontal ones in pixels of the scene's render size."""
    width, height = render_size(scene)
    aspect_x, aspect_y = scene.render.pixel_aspect_x, scene.render.pixel_aspect_y
    is_wide = width * aspect_x >= height * aspect_y
    fits_height = data.sensor_fit == "VERTICAL" or (data.sensor_fit == "AUTO" and not is_wide)
    seen = height * aspect_y / aspect_x if fits_height else width
    sensor = data.sensor_height if data.sensor_fit == "VERTICAL" else data.sensor_width
    return focal_px * sensor / seen


def _check_kind(evaluated: Object, name: str) -> None:
    if not evaluated.is_evaluated:
        raise ProtocolError(
            f"The camera {name} is disabled in the viewport or its collection is excluded from the view "
            "layer, so Blender does not animate it; enable it."
        )
    if evaluated.data.type != "PERSP":
        kind = _KINDS.get(evaluated.data.type, evaluated.data.type.lower())
        raise ProtocolError(
            f"The camera {name} is {kind}, and the model films only in perspective; "
            "set the camera's type to Perspective."
        )


def _intrinsics(projection: np.ndarray, width: int, height: int) -> list[float]:
    """fx, fy, cx, cy in pixels from Blender's own projection, which knows sensor fit, shift and aspect."""
    return [
        projection[0, 0] * width / 2,
        projection[1, 1] * height / 2,
        (1 - projection[0, 2]) * width / 2,
        (1 + projection[1, 2]) * height / 2,
    ]


def _rigid(matrix_world: np.ndarray, name: str) -> np.ndarray:
    """The pose without its scale, which Blender's renderer ignores as well; still in Blender's axes."""
    scale = np.linalg.norm(matrix_world[:3, :3], axis=0)
    if scale.min() == 0:
        raise ProtocolError(f"The camera {name} is scaled to zero; give it and its parents a scale of 1.")
    pose = matrix_world.copy()
    pose[:3, :3] /= scale
    rotation = pose[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-4 or np.linalg.det(rotation) < 0:
        raise ProtocolError(
            f"The camera {name} is sheared or mirrored by its own or its parents' scale; "
            "apply the scale of its parents."
        )
    return pose
