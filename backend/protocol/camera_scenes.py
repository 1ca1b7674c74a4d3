# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths in the files of scene reconstruction: transforms.json and COLMAP's text model."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from . import atomic
from .camera_parsing import Given, parse_numbers, read_camera_text, read_json_object
from .camera_path import CameraPath
from .camera_recorded import (
    BLENDER_FROM_OPENCV_WORLD,
    OPENCV_FROM_OPENGL_CAMERA,
    Recorded,
    quaternions_from,
    rigid,
    rigid_inverse,
    rotations_from,
    turn_world,
)
from .errors import ProtocolError

_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


def read_transforms(path: Path, given: Given) -> Recorded:
    """`transforms.json` of instant-ngp and nerfstudio: c2w with OpenGL axes, in a world with z up.

    The lens stands at the top or in each frame; frames are taken in the order of their file names, at the
    given frame rate. The image size must be given if the file has none.
    """
    top = read_json_object(path)
    frames = top.get("frames")
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ProtocolError(f"{path.name} has no list of frames.")
    frames = sorted(frames, key=lambda frame: natural_order(str(frame.get("file_path", ""))))
    c2w, intrinsics, sizes = [], [], set()
    for number, frame in enumerate(frames, start=1):
        where = f"Frame {number} ({frame.get('file_path', 'unnamed')}) of {path.name}"
        try:
            matrix = np.array(frame["transform_matrix"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"{where} has no transform_matrix of numbers.") from error
        if matrix.shape not in ((4, 4), (3, 4)):
            raise ProtocolError(f"{where}: transform_matrix must be of shape 4 x 4, not {matrix.shape}.")
        c2w.append(np.vstack([matrix[:3], [0, 0, 0, 1]]))
        size, lens = _transforms_lens(top | frame, where, given)
        sizes.add(size)
        intrinsics.append(lens)
    _refuse_several(sizes, path)
    return Recorded(
        np.array(c2w).reshape(-1, 4, 4) @ OPENCV_FROM_OPENGL_CAMERA,
        np.array(intrinsics).reshape(-1, 4),
        next(iter(sizes), (1, 1)),
        given.times(len(c2w)),
        tuple(str(frame["file_path"]) for frame in frames) if all("file_path" in f for f in frames) else (),
    )


def _transforms_lens(said: dict, where: str, given: Given) -> tuple[tuple[int, int], list[float]]:
    """Image size and fx, fy, cx, cy of one frame."""

    def number(name: str, otherwise: float | None = None) -> float | None:
        value = said.get(name, otherwise)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ProtocolError(f"{where}: {name} must be a number, not {value!r}.")
        return value

    if any(number(name, 0.0) for name in _DISTORTION) or "FISHEYE" in str(said.get("camera_model", "")):
        raise ProtocolError(f"{where} has lens distortion; undistort the images first.")
    width, height = number("w"), number("h")
    size = (int(width), int(height)) if width and height else given.require_size(where)
    fx, angle = number("fl_x"), number("camera_angle_x")
    if fx is None and angle is not None and 0 < angle < math.pi:
        fx = size[0] / 2 / math.tan(angle / 2)
    if fx is None:
        return size, given.require_intrinsics(where, 1)[0].tolist()
    return size, [fx, number("fl_y", fx), number("cx", size[0] / 2), number("cy", size[1] / 2)]


def write_transforms(path: Path, camera: CameraPath) -> None:
    """The inverse of `read_transforms`, with the lens in each frame too."""
    width, height = camera.image_size
    c2w = camera.c2w @ OPENCV_FROM_OPENGL_CAMERA
    frames = [
        {"file_path": f"images/{_image_name(index)}", "transform_matrix": pose.tolist()}
        | dict(zip(("fl_x", "fl_y", "cx", "cy"), lens.tolist(), strict=True))
        for index, (pose, lens) in enumerate(zip(c2w, camera.intrinsics, strict=True))
    ]
    first = {name: frames[0][name] for name in ("fl_x", "fl_y", "cx", "cy")}
    atomic.write_json(path, {"camera_model": "PINHOLE", "w": width, "h": height, **first, "frames": frames})


def read_colmap(path: Path, given: Given) -> Recorded:
    """A folder with COLMAP's cameras.txt and images.txt: w2c with OpenCV axes, in an OpenCV world.

    Images are taken in the order of their names, at the given frame rate.
    """
    cameras = _colmap_cameras(path / "cameras.txt")
    rows = []
    lines = iter(enumerate(read_camera_text(path / "images.txt").splitlines(), start=1))
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(maxsplit=9)
        where = f"Line {number} of images.txt"
        layout = "image id, qw qx qy qz, tx ty tz, camera id and then a name"
        values = parse_numbers(words[:9], {9}, where, layout)
        if int(values[8]) not in cameras:
            raise ProtocolError(f"{where} names camera {values[8]:g}, which cameras.txt does not hold.")
        length = np.linalg.norm(values[1:5])
        if abs(length - 1) > 1e-2:
            raise ProtocolError(f"{where} has a quaternion of length {length:.3g}, not 1.")
        rows.append(
            (words[9] if len(words) > 9 else "", np.array(values[1:5]) / length, values[5:8], values[8])
        )
        next(lines, None)  # the points seen in this image; the line may be empty
    rows.sort(key=lambda row: natural_order(row[0]))
    used = [cameras[int(row[3])] for row in rows]
    _refuse_several({size for size, _lens in used}, path)
    rotations = rotations_from(np.array([row[1] for row in rows]).reshape(-1, 4))
    c2w = rigid_inverse(rigid(rotations, np.array([row[2] for row in rows]).reshape(-1, 3)))
    return Recorded(
        turn_world(BLENDER_FROM_OPENCV_WORLD, c2w),
        np.array([lens for _size, lens in used]).reshape(-1, 4),
        used[0][0] if used else (1, 1),
        given.times(len(rows)),
        tuple(row[0] for row in rows) if all(row[0] for row in rows) else (),
    )


def _colmap_cameras(path: Path) -> dict[int, tuple[tuple[int, int], list[float]]]:
    """Camera id -> image size and fx, fy, cx, cy."""
    cameras = {}
    for number, line in enumerate(read_camera_text(path).splitlines(), start=1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        where, model = f"Line {number} of {path.name}", words[1] if len(words) > 1 else ""
        parameters = {"PINHOLE": 4, "SIMPLE_PINHOLE": 3}.get(model)
        if parameters is None:
            raise ProtocolError(
                f"{where} has the camera model {model!r}; undistort the images to PINHOLE or SIMPLE_PINHOLE first."
            )
        layout = f"camera id, width, height and {parameters} of the lens"
        camera, width, height, *lens = parse_numbers([words[0], *words[2:]], {3 + parameters}, where, layout)
        cameras[int(camera)] = (int(width), int(height)), lens if parameters == 4 else [lens[0], *lens]
    return cameras


def write_colmap(path: Path, camera: CameraPath) -> None:
    """The inverse of `read_colmap`; writes points3D.txt too, empty, because COLMAP opens no model without it."""
    path.mkdir(parents=True, exist_ok=True)
    w2c = rigid_inverse(turn_world(BLENDER_FROM_OPENCV_WORLD.T, camera.c2w))
    lenses, used = np.unique(camera.intrinsics, axis=0, return_inverse=True)
    width, height = camera.image_size
    cameras = [
        f"{number} PINHOLE {width} {height} {' '.join(map(repr, lens))}"
        for number, lens in enumerate(lenses.tolist(), start=1)
    ]
    images = []
    quaternions = quaternions_from(w2c[:, :3, :3])
    for index, pose in enumerate(np.column_stack([quaternions, w2c[:, :3, 3]]).tolist()):
        images += [f"{index + 1} {' '.join(map(repr, pose))} {used.flat[index] + 1} {_image_name(index)}", ""]
    for name, lines in (("cameras.txt", cameras), ("images.txt", images), ("points3D.txt", [])):
        atomic.write_bytes(path / name, "".join(f"{line}\n" for line in lines).encode())


def _refuse_several(sizes: set[tuple[int, int]], path: Path) -> None:
    if len(sizes) > 1:
        named = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise ProtocolError(f"{path.name} has images of several sizes ({named}); a shot needs one size.")


def _image_name(index: int) -> str:
    return f"frame_{index:06d}.png"


def natural_order(name: str) -> list:
    """Sorts frame_2 before frame_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
