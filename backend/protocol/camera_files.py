# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths in other programs' files: read any, write a CameraPath to any."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import atomic, camera_lines, camera_scenes
from .camera_parsing import Given, read_camera_text, read_json_object
from .camera_path import FPS, CameraPath
from .camera_recorded import BLENDER_FROM_OPENCV_WORLD, Recorded, checked, turn_world
from .errors import ProtocolError


@dataclass(frozen=True)
class CameraFormat:
    """One kind of file.

    Attributes:
        label: shown to the user.
        suffix: of the file's name; empty for a folder.
        read: path and what the file lacks -> cameras.
        write: path and camera -> file.
    """

    label: str
    suffix: str
    read: Callable[[Path, Given], Recorded]
    write: Callable[[Path, CameraPath], None]


def read_recorded(path: Path, kind: str, given: Given | None = None) -> Recorded:
    """Read the cameras as a file holds them, at its own times.

    Args:
        kind: a key of FORMATS.
        given: what the file does not hold.

    Raises:
        ProtocolError: missing or damaged, with the line where there is one; or `given` lacks what the file
            lacks.
    """
    return checked(FORMATS[kind].read(path, given or Given()), path.name)


def kind_of(path: Path) -> str:
    """The key of FORMATS that a file is of, by its name, or by its first line of numbers where that says too little.

    Raises:
        ProtocolError: it is of none.
    """
    if path.is_dir() or path.name in ("cameras.txt", "images.txt"):
        return "COLMAP"
    suffix = path.suffix.lower()
    if suffix in (".txt", ".tum", ".kitti"):
        lines = (line.split() for line in read_camera_text(path).splitlines() if not line.startswith("#"))
        counts = [len(words) for words in lines if words][:2]  # RealEstate10K begins with a title
        for count in counts:
            if count in _KIND_BY_NUMBERS:
                return _KIND_BY_NUMBERS[count]
    for kind, one in FORMATS.items():
        if suffix == one.suffix and suffix != ".txt":
            return kind
    raise ProtocolError(f"{path.name} is none of the camera files that can be read; choose its format.")


def write_camera(path: Path, kind: str, camera: CameraPath) -> None:
    """Write a camera path at 16 fps; ProtocolError if the format cannot hold it."""
    FORMATS[kind].write(path, camera)


def _read_npy(path: Path, given: Given) -> Recorded:
    """SANA-WM: c2w (F, 4, 4) in `pose.npy`, OpenCV axes in an OpenCV world, metres.

    Beside it, named alike with other words for "pose": `intrinsics.npy` (4,), (F, 4), (3, 3) or (F, 3, 3) in
    pixels of the first frame, and `camera.json` with fps and image_size; what is missing must be given.
    """
    c2w = _array(path)
    if c2w.ndim != 3 or c2w.shape[1:] != (4, 4):
        raise ProtocolError(f"{path.name} must be of shape (F, 4, 4), not {c2w.shape}.")
    intrinsics_npy, camera_json = _npy_siblings(path)
    said = read_json_object(camera_json) if camera_json.exists() else {}
    fps = said.get("fps", given.fps)
    if not isinstance(fps, int | float):
        raise ProtocolError(f"{camera_json.name}: fps must be a number, not {fps!r}.")
    times = Given(fps=fps).times(len(c2w))
    size = _size(said["image_size"], camera_json) if "image_size" in said else given.require_size(path.name)
    if intrinsics_npy.exists():
        intrinsics = _array(intrinsics_npy)
        if intrinsics.shape[-2:] == (3, 3):
            intrinsics = intrinsics[..., [0, 1, 0, 1], [0, 1, 2, 2]]
        if intrinsics.shape not in ((4,), (len(c2w), 4)):
            raise ProtocolError(
                f"{intrinsics_npy.name} does not fit {len(c2w)} poses; its shape is {_array(intrinsics_npy).shape}."
            )
        intrinsics = np.broadcast_to(intrinsics, (len(c2w), 4))
    else:
        intrinsics = given.require_intrinsics(path.name, len(c2w))
    return Recorded(turn_world(BLENDER_FROM_OPENCV_WORLD, c2w), intrinsics, size, times)


def _write_npy(path: Path, camera: CameraPath) -> None:
    """The three files of `_read_npy`; float32, as SANA-WM computes with them."""
    intrinsics_npy, camera_json = _npy_siblings(path)
    arrays = {path: turn_world(BLENDER_FROM_OPENCV_WORLD.T, camera.c2w), intrinsics_npy: camera.intrinsics}
    for file, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array.astype(np.float32))
        atomic.write_bytes(file, buffer.getvalue())
    atomic.write_json(
        camera_json,
        {
            "fps": FPS,
            "image_size": camera.image_size,
            "poses": "camera to world; x right, y down, z forward; metres",
            "intrinsics": "fx, fy, cx, cy in pixels of image_size",
        },
    )


def _npy_siblings(path: Path) -> tuple[Path, Path]:
    if "pose" not in path.stem:
        raise ProtocolError(f'The name {path.name} must contain "pose", such as pose.npy.')
    names = (path.stem.replace("pose", word) for word in ("intrinsics", "camera"))
    intrinsics, camera = names
    return path.with_name(f"{intrinsics}.npy"), path.with_name(f"{camera}.json")


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
        if isinstance(array, np.ndarray) and np.issubdtype(array.dtype, np.number):
            return array.astype(np.float64)
    except FileNotFoundError as error:
        raise ProtocolError(f"The camera file {path} is missing.") from error
    except (ValueError, OSError, EOFError, tokenize.TokenError) as error:
        raise ProtocolError(f"{path.name} is not an array that numpy can read: {error}.") from error
    raise ProtocolError(f"{path.name} does not hold one array of numbers.")


def _size(value: Any, path: Path) -> tuple[int, int]:
    if (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(side, int) and side > 0 for side in value)
    ):
        return value[0], value[1]
    raise ProtocolError(f"{path.name}: image_size must be width and height in pixels, not {value!r}.")


# Numbers in a line of a .txt file.
_KIND_BY_NUMBERS = {19: "REALESTATE10K", 8: "TUM", 12: "KITTI"}
FORMATS = {
    "SANA_WM": CameraFormat("SANA-WM poses", ".npy", _read_npy, _write_npy),
    "TRANSFORMS": CameraFormat(
        "transforms.json", ".json", camera_scenes.read_transforms, camera_scenes.write_transforms
    ),
    "REALESTATE10K": CameraFormat(
        "RealEstate10K", ".txt", camera_lines.read_realestate10k, camera_lines.write_realestate10k
    ),
    "TUM": CameraFormat("TUM trajectory", ".txt", camera_lines.read_tum, camera_lines.write_tum),
    "KITTI": CameraFormat("KITTI odometry", ".txt", camera_lines.read_kitti, camera_lines.write_kitti),
    "COLMAP": CameraFormat("COLMAP model", "", camera_scenes.read_colmap, camera_scenes.write_colmap),
    "CHAN": CameraFormat("Nuke chan", ".chan", camera_lines.read_chan, camera_lines.write_chan),
}
