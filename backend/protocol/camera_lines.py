# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths in text files with one camera a line: RealEstate10K, TUM, KITTI and Nuke's .chan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from . import atomic
from .camera_parsing import Given, parse_numbers, read_camera_text
from .camera_path import FPS, CameraPath
from .camera_recorded import (
    BLENDER_FROM_OPENCV_WORLD,
    BLENDER_FROM_Y_UP_WORLD,
    OPENCV_FROM_OPENGL_CAMERA,
    Recorded,
    quaternions_from,
    rigid,
    rigid_inverse,
    rotations_from,
    turn_world,
)
from .errors import ProtocolError


def read_realestate10k(path: Path, given: Given) -> Recorded:
    """A title, then: microseconds, fx, fy, cx, cy of an image of 1 x 1, two zeros, w2c (3 x 4) in rows.

    OpenCV axes in an OpenCV world. The image size must be given.
    """
    width, height = given.require_size(path.name)
    layout = "a timestamp, fx fy cx cy, two zeros and twelve numbers of w2c"
    first_line = read_camera_text(path).partition("\n")[0]
    titled = len(first_line.split()) != 19
    lines = list(_number_lines(path, {19}, layout, skipped=int(titled)))
    for number, values in lines:
        if values[5] or values[6]:
            raise ProtocolError(
                f"Line {number} of {path.name} has lens distortion; undistort the images first."
            )
    table = np.array([values for _number, values in lines]).reshape(-1, 19)
    w2c = table[:, 7:].reshape(-1, 3, 4)
    c2w = rigid_inverse(rigid(w2c[:, :, :3], w2c[:, :, 3]))
    return Recorded(
        turn_world(BLENDER_FROM_OPENCV_WORLD, c2w),
        table[:, 1:5] * [width, height, width, height],
        (width, height),
        table[:, 0] / 1e6,
    )


def write_realestate10k(path: Path, camera: CameraPath) -> None:
    """The inverse of `read_realestate10k`; the image size is lost."""
    width, height = camera.image_size
    w2c = rigid_inverse(turn_world(BLENDER_FROM_OPENCV_WORLD.T, camera.c2w))[:, :3].reshape(-1, 12)
    lens = camera.intrinsics / [width, height, width, height]
    microseconds = [str(round(i * 1e6 / FPS)) for i in range(len(camera))]
    lines = [
        f"{time} {_numbers(k)} 0 0 {_numbers(pose)}"
        for time, k, pose in zip(microseconds, lens, w2c, strict=True)
    ]
    _write(path, ["# sana_wm camera path", *lines])


def read_tum(path: Path, given: Given) -> Recorded:
    """Seconds, position x y z and quaternion x y z w of c2w; OpenCV axes in an OpenCV world.

    Image size and lens must be given.
    """
    size = given.require_size(path.name)
    lines = list(_number_lines(path, {8}, "timestamp tx ty tz qx qy qz qw"))
    table = np.array([values for _number, values in lines]).reshape(-1, 8)
    length = np.linalg.norm(table[:, 4:], axis=1)
    for (number, _values), each in zip(lines, length, strict=True):
        if abs(each - 1) > 1e-2:
            raise ProtocolError(f"Line {number} of {path.name} has a quaternion of length {each:.3g}, not 1.")
    rotations = rotations_from(table[:, [7, 4, 5, 6]] / length[:, None])
    c2w = turn_world(BLENDER_FROM_OPENCV_WORLD, rigid(rotations, table[:, 1:4]))
    return Recorded(c2w, given.require_intrinsics(path.name, len(table)), size, table[:, 0])


def write_tum(path: Path, camera: CameraPath) -> None:
    """The inverse of `read_tum`; image size and lens are lost."""
    c2w = turn_world(BLENDER_FROM_OPENCV_WORLD.T, camera.c2w)
    quaternions = quaternions_from(c2w[:, :3, :3])[:, [1, 2, 3, 0]]
    table = np.column_stack([np.arange(len(camera)) / FPS, c2w[:, :3, 3], quaternions])
    _write(path, ["# timestamp tx ty tz qx qy qz qw", *map(_numbers, table)])


def read_kitti(path: Path, given: Given) -> Recorded:
    """c2w (3 x 4) in rows; OpenCV axes in an OpenCV world. Frame rate, image size and lens must be given."""
    size = given.require_size(path.name)
    lines = list(_number_lines(path, {12}, "the three rows of a 3 x 4 matrix"))
    table = np.array([values for _number, values in lines]).reshape(-1, 3, 4)
    c2w = turn_world(BLENDER_FROM_OPENCV_WORLD, rigid(table[:, :, :3], table[:, :, 3]))
    return Recorded(c2w, given.require_intrinsics(path.name, len(c2w)), size, given.times(len(c2w)))


def write_kitti(path: Path, camera: CameraPath) -> None:
    """The inverse of `read_kitti`; times, image size and lens are lost."""
    c2w = turn_world(BLENDER_FROM_OPENCV_WORLD.T, camera.c2w)
    _write(path, map(_numbers, c2w[:, :3].reshape(-1, 12)))


def read_chan(path: Path, given: Given) -> Recorded:
    """Frame, position x y z, rotation x y z and perhaps the vertical field of view, angles in degrees.

    A world with y up; the camera looks along its -z; the rotation is Ry Rx Rz, which Nuke calls ZXY. Frame
    rate and image size must be given, and the lens if the file has no field of view.
    """
    width, height = given.require_size(path.name)
    lines = list(
        _number_lines(path, {7, 8}, "frame tx ty tz rx ry rz and perhaps the vertical field of view")
    )
    if len({len(values) for _number, values in lines}) > 1:
        raise ProtocolError(f"{path.name} has a field of view in some lines only; give it in all or in none.")
    for number, values in lines:
        if len(values) == 8 and not 0 < values[7] < 180:
            raise ProtocolError(
                f"Line {number} of {path.name} has a field of view of {values[7]:g} degrees; "
                "it must lie between 0 and 180."
            )
    columns = len(lines[0][1]) if lines else 7
    table = np.array([values for _number, values in lines]).reshape(-1, columns)
    x, y, z = np.radians(table[:, 4:7]).T
    rotations = _about(1, y) @ _about(0, x) @ _about(2, z)
    c2w = turn_world(BLENDER_FROM_Y_UP_WORLD, rigid(rotations, table[:, 1:4])) @ OPENCV_FROM_OPENGL_CAMERA
    if columns == 8:
        focal = height / 2 / np.tan(np.radians(table[:, 7]) / 2)
        centre = np.ones_like(focal)
        intrinsics = np.column_stack([focal, focal, centre * width / 2, centre * height / 2])
    else:
        intrinsics = given.require_intrinsics(path.name, len(table))
    return Recorded(c2w, intrinsics, (width, height), table[:, 0] / given.fps)


def write_chan(path: Path, camera: CameraPath) -> None:
    """The inverse of `read_chan` at 16 fps from frame 1; the image size is lost.

    Raises:
        ProtocolError: the lens is shifted or its pixels are not square, which the format cannot hold.
    """
    width, height = camera.image_size
    fx, fy, cx, cy = camera.intrinsics.T
    if np.abs(fx / fy - 1).max() > 1e-6 or np.abs([cx - width / 2, cy - height / 2]).max() > 1e-6 * width:
        raise ProtocolError(
            "A .chan file holds neither a lens shift nor pixels that are not square; choose another format."
        )
    c2w = turn_world(BLENDER_FROM_Y_UP_WORLD.T, camera.c2w @ OPENCV_FROM_OPENGL_CAMERA)
    r = c2w[:, :3, :3]
    x = np.arctan2(-r[:, 1, 2], np.hypot(r[:, 1, 0], r[:, 1, 1]))
    upright = np.hypot(r[:, 1, 0], r[:, 1, 1]) > 1e-9  # straight up or down, pan and roll are one
    y = np.where(upright, np.arctan2(r[:, 0, 2], r[:, 2, 2]), np.arctan2(-r[:, 2, 0], r[:, 0, 0]))
    z = np.where(upright, np.arctan2(r[:, 1, 0], r[:, 1, 1]), 0.0)
    angles = np.degrees(np.unwrap(np.column_stack([x, y, z]), axis=0))  # others interpolate the numbers
    fov = np.degrees(2 * np.arctan(height / 2 / fy))
    table = np.column_stack([c2w[:, :3, 3], angles, fov])
    _write(path, [f"{frame} {_numbers(values)}" for frame, values in enumerate(table, start=1)])


def _number_lines(
    path: Path, counts: set[int], layout: str, skipped: int = 0
) -> Iterator[tuple[int, list[float]]]:
    """Yields (line number, numbers) of each line that is neither empty nor a comment."""
    for number, line in enumerate(read_camera_text(path).splitlines(), start=1):
        words = line.split()
        if number > skipped and words and not line.lstrip().startswith("#"):
            yield number, parse_numbers(words, counts, f"Line {number} of {path.name}", layout)


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    """(N,) radians -> (N, 3, 3) rotations about one axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotations = np.tile(np.eye(3), (len(angle), 1, 1))
    rotations[:, first, first] = rotations[:, second, second] = np.cos(angle)
    rotations[:, second, first] = np.sin(angle)
    rotations[:, first, second] = -np.sin(angle)
    return rotations


def _numbers(values: np.ndarray) -> str:
    return " ".join(repr(float(value) + 0.0) for value in values)  # + 0.0 turns -0.0 into 0.0


def _write(path: Path, lines: Iterable[str]) -> None:
    atomic.write_bytes(path, ("\n".join(lines) + "\n").encode())
