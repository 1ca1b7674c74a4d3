# SPDX-License-Identifier: GPL-3.0-or-later
"""A clip on its way into a dataset, and why another one did not get there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..protocol import CameraPath


@dataclass(frozen=True, eq=False)
class SourceClip:
    """Pictures and what is known about them, before a codec.

    Attributes:
        name: letters, digits, `_` and `-`; unique in its dataset.
        frames: (F, H, W, 3) uint8, sRGB.
        camera: a pose and a lens for every frame; its image size is the frames'.
        caption: what the clip shows, in words; may be empty.
        origin: where it comes from, for people: plain JSON values.
        depth_m: (F, H, W) float16, metres along the optical axis, inf where nothing is; None where unknown.
    """

    name: str
    frames: np.ndarray
    camera: CameraPath
    caption: str
    origin: dict[str, Any]
    depth_m: np.ndarray | None = None


@dataclass(frozen=True)
class Rejected:
    """A clip that does not enter the dataset, and the reason in a sentence."""

    name: str
    reason: str
