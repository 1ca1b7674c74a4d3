# SPDX-License-Identifier: GPL-3.0-or-later
"""The depth of a render, exact to the engine: written by Blender as a plain OpenEXR file, and read from it.

Blender gives scripts no way to the passes of a render but through a file. Of the format
(https://openexr.com/en/latest/OpenEXRFileLayout.html) only what Blender writes with these settings is read: one part,
scan lines, no compression.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..backend.protocol import ProtocolError
from . import compat
from .plain_render import Setting

_MAGIC = b"\x76\x2f\x31\x01"
_TYPES = {0: "<u4", 1: "<f2", 2: "<f4"}
# Blender's depth where a ray hits nothing.
_NOTHING_M = 1e9


def exr_settings(image: Any) -> list[Setting]:
    """Image settings under which a render's passes are written as `read_depth` reads them."""
    return [
        *compat.multilayer_settings(image),
        (image, "file_format", "OPEN_EXR_MULTILAYER"),
        (image, "color_depth", "32"),
        (image, "exr_codec", "NONE"),
        *compat.single_part_settings(image),
    ]


def read_depth(path: Path) -> np.ndarray:
    """(H, W) float32, distance along the optical axis in Blender units; inf where nothing is.

    Raises:
        ProtocolError: the file has no depth, or is not written as it has to be.
    """
    channels = _channels(path)
    depth = next((values for name, values in channels.items() if name.endswith(".Depth.Z")), None)
    if depth is None:
        raise ProtocolError("Blender rendered no depth; choose another engine.")
    return np.where(depth > _NOTHING_M, np.float32(np.inf), depth)


def _channels(path: Path) -> dict[str, np.ndarray]:
    """Channel name -> (H, W)."""
    data = path.read_bytes()
    if data[:4] != _MAGIC or int.from_bytes(data[4:8], "little") & 0x1A00:  # tiles, deep data, several parts
        raise ProtocolError(f"{path.name} is no OpenEXR file of one part in scan lines.")
    attributes, at = _header(data)
    left, top, right, bottom = np.frombuffer(attributes["dataWindow"], "<i4").tolist()
    width, height = right - left + 1, bottom - top + 1
    if attributes["compression"] != b"\0":
        raise ProtocolError(f"{path.name} is compressed.")
    names, fields, place = [], [], 0
    listed = attributes["channels"]
    while listed[place]:
        end = listed.index(b"\0", place)
        names.append(listed[place:end].decode())
        fields.append(
            (f"f{len(fields)}", _TYPES[int.from_bytes(listed[end + 1 : end + 5], "little")], (width,))
        )
        place = end + 17  # type, a flag, three unused bytes, sampling in x and y
    line = np.dtype([("y", "<i4"), ("size", "<i4"), *fields])
    starts = np.frombuffer(data, "<u8", height, at)
    lines = np.stack([np.frombuffer(data, line, 1, int(start)) for start in starts])[:, 0]
    return {name: lines[field] for name, (field, _type, _shape) in zip(names, fields, strict=True)}


def _header(data: bytes) -> tuple[dict[str, bytes], int]:
    """Attributes by name, and where the table of the lines' places begins."""
    attributes, at = {}, 8
    while data[at]:
        end = data.index(b"\0", at)
        name = data[at:end].decode()
        at = data.index(b"\0", end + 1) + 1  # over the type
        size = int.from_bytes(data[at : at + 4], "little")
        attributes[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return attributes, at + 1
