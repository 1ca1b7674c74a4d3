# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture a clip begins with: the blockout through the shot's camera, or an image file."""

from __future__ import annotations

import math
import struct
import tempfile
import zlib
from pathlib import Path

import bpy
import numpy as np
from bpy.types import Image, Object, Scene, ViewLayer

from ..backend.protocol import ProtocolError, cover_crop
from .colour import srgb_from_linear
from .plain_render import plain_render
from .timeline import playhead_kept, refuse_while_occupied

# Enlarging a picture more than this leaves nothing for the model to keep.
MAX_ENLARGEMENT = 4


def render_blockout(scene: Scene, view_layer: ViewLayer, camera: Object, frame: float) -> bytes:
    """Render the blockout with Workbench, at the scene's size and with its display and colour settings.

    Workbench's render works with and without a window; the scene is left as it was.

    Args:
        frame: scene frame of camera sample 0; may lie between frames.

    Returns:
        A PNG file, 8 bit RGB.

    Raises:
        ProtocolError: the render failed, or Blender is playing or rendering.
    """
    refuse_while_occupied()
    whole = math.floor(frame)
    with (
        tempfile.TemporaryDirectory(prefix="sana_wm_") as folder,
        playhead_kept(scene),
        plain_render(scene, view_layer, "BLENDER_WORKBENCH", target := Path(folder) / "first_frame.png"),
    ):
        scene.frame_set(whole, subframe=frame - whole)
        scene.camera = camera
        try:
            bpy.ops.render.render(write_still=True, scene=scene.name)
        except RuntimeError as error:
            raise ProtocolError(f"The first frame could not be rendered: {error}") from error
        if not target.exists():
            raise ProtocolError("The first frame could not be rendered; Blender's console says why.")
        return target.read_bytes()


def image_file(path: Path, size: tuple[int, int]) -> bytes:
    """An image file in any format Blender reads, scaled to cover `size` and cut to it around the centre.

    Args:
        size: (width, height) in pixels, the scene's render size.

    Returns:
        A PNG file, 8 bit RGB. Scene-linear formats such as OpenEXR are encoded as sRGB.

    Raises:
        ProtocolError: missing, not an image, or so small that little would be left of it.
    """
    if not path.is_file():
        raise ProtocolError(f"The first frame {path} does not exist; choose another image.")
    try:
        image = bpy.data.images.load(str(path), check_existing=False)
    except RuntimeError as error:
        raise ProtocolError(f"The first frame {path} cannot be read: {error}") from error
    try:
        return _png(_fitted(image, path, size))
    finally:
        bpy.data.images.remove(image)


def _fitted(image: Image, path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 sRGB, top row first."""
    width, height = image.size
    if not width or not height:
        raise ProtocolError(f"The first frame {path} is not an image that Blender reads; choose another.")
    crop = cover_crop((width, height), size)
    if crop.resized[0] > MAX_ENLARGEMENT * width:
        raise ProtocolError(
            f"The first frame {path.name} is {width}x{height} pixels, too small for a render size of "
            f"{size[0]}x{size[1]}; choose one that covers "
            f"{math.ceil(size[0] / MAX_ENLARGEMENT)}x{math.ceil(size[1] / MAX_ENLARGEMENT)}."
        )
    if crop.resized != (width, height):
        image.scale(*crop.resized)
    pixels = np.empty((crop.resized[1], crop.resized[0], image.channels), np.float32)
    image.pixels.foreach_get(pixels.ravel())
    top_first = pixels[::-1][crop.top : crop.top + size[1], crop.left : crop.left + size[0]]
    rgb = top_first[..., :3] if image.channels >= 3 else np.repeat(top_first[..., :1], 3, axis=2)
    rgb = srgb_from_linear(rgb) if image.is_float else np.clip(rgb, 0, 1)
    return np.round(rgb * 255).astype(np.uint8)


def _png(rgb: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 as PNG."""
    height, width, _ = rgb.shape
    rows = np.zeros((height, 1 + width * 3), np.uint8)  # a leading 0 a row: no filter
    rows[:, 1:] = rgb.reshape(height, -1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 6))
        + chunk(b"IEND", b"")
    )
