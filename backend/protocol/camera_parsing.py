# SPDX-License-Identifier: GPL-3.0-or-later
"""What every reader of camera files needs: text, numbers, and what the user says where a file is silent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .camera_path import FPS
from .errors import ProtocolError
from .text_files import read_text


@dataclass(frozen=True)
class Given:
    """What a file may not hold and the user says instead.

    Attributes:
        fps: cameras per second, for files without times.
        image_size: (width, height) in pixels.
        intrinsics: fx, fy, cx, cy in pixels of `image_size`.
    """

    fps: float = FPS
    image_size: tuple[int, int] | None = None
    intrinsics: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.fps < 1e4:
            raise ProtocolError(f"The frame rate must be positive, not {self.fps:g}.")

    def require_size(self, name: str) -> tuple[int, int]:
        """The image size; ProtocolError that names the file if it was not given."""
        if self.image_size is None:
            raise ProtocolError(f"{name} does not say how large its image is; give the width and height.")
        return self.image_size

    def require_intrinsics(self, name: str, count: int) -> np.ndarray:
        """(count, 4) the lens for every camera; ProtocolError that names the file if it was not given."""
        if self.intrinsics is None:
            raise ProtocolError(f"{name} does not hold the lens; give fx, fy, cx and cy.")
        return np.tile(np.array(self.intrinsics, dtype=np.float64), (count, 1))

    def times(self, count: int) -> np.ndarray:
        """(count,) seconds at `fps`."""
        return np.arange(count) / self.fps


def read_camera_text(path: Path) -> str:
    """The file as UTF-8 text; ProtocolError if it is missing or is none."""
    return read_text(path, "camera file", "choose a text file")


def read_json_object(path: Path) -> dict[str, Any]:
    """The file as a JSON object; ProtocolError with the line if it is none."""
    try:
        value = json.loads(read_camera_text(path))
    except json.JSONDecodeError as error:
        raise ProtocolError(
            f"Line {error.lineno} of {path.name} is not readable JSON: {error.msg}."
        ) from error
    if not isinstance(value, dict):
        raise ProtocolError(f"{path.name} must hold a JSON object.")
    return value


def parse_numbers(words: list[str], counts: set[int], where: str, layout: str) -> list[float]:
    """As many finite numbers as `counts` allows; ProtocolError that begins with `where` otherwise."""
    if len(words) not in counts:
        wanted = " or ".join(map(str, sorted(counts)))
        raise ProtocolError(f"{where} must hold {wanted} numbers ({layout}), not {len(words)}.")
    values = []
    for word in words:
        try:
            values.append(float(word))
        except ValueError as error:
            raise ProtocolError(f"{where} holds {word!r} where a number must be ({layout}).") from error
    if not np.isfinite(values).all():
        raise ProtocolError(f"{where} holds a number that is not finite.")
    return values
