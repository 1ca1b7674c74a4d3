# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pose belongs to which picture of a piece of footage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..protocol import FPS, ProtocolError
from ..protocol.camera_files import read_recorded
from ..protocol.camera_parsing import Given
from ..protocol.camera_recorded import Recorded

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
# What users call them -> a key of protocol.camera_files.FORMATS, and where the file lies beside NAME or inside NAME/.
KINDS = {
    "colmap": ("COLMAP", ("{name}.colmap", "{name}/sparse/0", "{name}/sparse", "{name}")),
    "tum": ("TUM", ("{name}.tum", "{name}/poses.tum", "{name}/poses.txt")),
    "transforms": ("TRANSFORMS", ("{name}.json", "{name}/transforms.json")),
    "sana": ("SANA_WM", ("{name}_pose.npy", "{name}/pose.npy")),
}


def read_poses(folder: Path, name: str, kind: str, given: Given) -> Recorded:
    """The solver's cameras of the footage NAME in a folder.

    Args:
        kind: a key of KINDS.
        given: what the files may not say.

    Raises:
        ProtocolError: they are missing or damaged.
    """
    format, patterns = KINDS[kind]
    places = [folder / pattern.format(name=name) for pattern in patterns]
    for place in places:
        if kind != "colmap" and place.is_file():
            return read_recorded(place, format, given)
        if kind == "colmap" and (place / "images.txt").is_file():
            return read_recorded(place, format, given)
        if kind == "colmap" and (place / "images.bin").is_file():
            raise ProtocolError(
                f"The COLMAP model {place} is binary; write it as text: colmap model_converter --output_type TXT."
            )
    looked = ", ".join(str(place.relative_to(folder)) for place in places)
    raise ProtocolError(f"It has no {kind} poses; looked for {looked}.")


def rows_of_pictures(recorded: Recorded, kind: str, pictures: Sequence[str], fps: float) -> np.ndarray:
    """(N,) int: the recorded camera of each picture, -1 where it has none.

    By the pictures' names, where both sides have them; one to one, where there are as many of one as of the other; by
    the time since the first picture, for TUM.

    Args:
        pictures: file names, or "" for each frame of a video.
        fps: pictures per second.

    Raises:
        ProtocolError: the two do not fit each other.
    """
    rows = np.full(len(pictures), -1)
    if recorded.names and all(pictures):
        by_name = {_stem(name): row for row, name in enumerate(recorded.names)}
        rows[:] = [by_name.get(_stem(name), -1) for name in pictures]
        if (rows < 0).all():
            raise ProtocolError(
                f"The poses are of other pictures: they name {recorded.names[0]}, and there is {pictures[0]}."
            )
    elif len(recorded.c2w) == len(pictures):
        rows[:] = np.arange(len(pictures))
    elif kind == "tum":
        index = np.round(recorded.times_s * fps).astype(int)
        inside = (index >= 0) & (index < len(pictures))
        if not inside.any():
            raise ProtocolError(
                f"Its poses begin at {recorded.times_s[0]:g} s, after the footage has ended; give their times from the "
                "first picture on."
            )
        rows[index[inside]] = np.flatnonzero(inside)
    else:
        raise ProtocolError(
            f"It has {len(recorded.c2w)} poses for {len(pictures)} pictures, and nothing says which belong together."
        )
    return rows


def pictures_at_16_fps(count: int, fps: float) -> np.ndarray:
    """(S,) the picture nearest to each 1/16 s; its own pose goes with it, so nothing is interpolated.

    Raises:
        ProtocolError: there are fewer than 16 pictures a second.
    """
    if fps < FPS - 0.01:
        raise ProtocolError(f"It has {fps:g} pictures a second, and training needs at least {FPS}.")
    samples = int((count - 1) * FPS / fps + 1e-6) + 1
    return np.minimum(np.round(np.arange(samples) * fps / FPS).astype(int), count - 1)


def runs_of(present: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _stem(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in PICTURE_SUFFIXES else path.name
