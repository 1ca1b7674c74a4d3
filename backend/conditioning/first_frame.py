# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame as the model wants it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..protocol import ProtocolError, cover_crop


def read_first_frame(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read a PNG, scale it to cover `size` (Lanczos) and cut the centre out.

    Args:
        path: PNG file; transparency is dropped.
        size: (width, height) in pixels.

    Returns:
        (H, W, 3) float32, sRGB 0..1.

    Raises:
        ProtocolError: the file is not a readable image.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ProtocolError(
            f"{path.name} is not a readable image ({error}); export the shot again."
        ) from error
    crop = cover_crop(image.size, size)
    if crop.resized != image.size:
        image = image.resize(crop.resized, Image.Resampling.LANCZOS)
    box = (crop.left, crop.top, crop.left + size[0], crop.top + size[1])
    return np.asarray(image.crop(box), dtype=np.float32) / 255
