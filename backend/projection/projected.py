# SPDX-License-Identifier: GPL-3.0-or-later
"""Every frame of a camera path from the first frame and the blockout alone: carried along, then completed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..protocol.blockout import Blockout
from ..protocol.camera_path import CameraPath
from .fill import GuidedFill, spread
from .scene import RayScene
from .warp import FirstFrameWarp

# How much of the visible surroundings' deviation is carried into a hole.
CARRIED = 0.8


@dataclass(frozen=True, eq=False)
class ProjectedFrame:
    """One frame, all (H, W) or (H, W, 3).

    Attributes:
        base: float32, sRGB 0..1, the first frame's pixels with the holes filled.
        guide: float32, sRGB 0..1, the blockout in viewport colours.
        visible: float32, share of the pixel that the first frame shows, 0..1.
        inverse_depth: float32, 1/m, 0 in the sky.
        is_sky: bool.
    """

    base: np.ndarray
    guide: np.ndarray
    visible: np.ndarray
    inverse_depth: np.ndarray
    is_sky: np.ndarray


def project(
    blockout: Blockout,
    path: CameraPath,
    first_frame: np.ndarray,
    size: tuple[int, int],
    samples: Iterable[int] | None = None,
) -> Iterator[ProjectedFrame]:
    """The frames of the path, one at a time; frame 0 is the first frame as it is.

    Args:
        path: for images of any size; fitted to `size` here.
        first_frame: (H, W, 3) float32 of `size`, sRGB 0..1.
        size: (width, height) in pixels.
        samples: which of them, in any order; None for all.

    Raises:
        ProtocolError: the blockout has no motion for one of the samples.
    """
    path = path.fitted_to(size)
    scene = RayScene(blockout)
    warp = FirstFrameWarp(scene, path, first_frame)
    fill = GuidedFill(warp.hits, path.c2w[0], path.intrinsics[0], first_frame, len(blockout.object_names))
    for sample in range(len(path)) if samples is None else samples:
        pose = path.c2w[sample], path.intrinsics[sample]
        hits = scene.cast(*pose, size, sample) if sample else warp.hits
        warped = warp.warp(hits, sample)
        base = _completed(warped.color, warped.visible, fill.predict(hits, *pose), hits.is_sky)
        inverse_depth = 1 / hits.depth_m
        yield ProjectedFrame(base, hits.color, warped.visible, inverse_depth, hits.is_sky)


def _completed(
    color: np.ndarray, visible: np.ndarray, predicted: np.ndarray, is_sky: np.ndarray
) -> np.ndarray:
    """The warped picture where it is visible; elsewhere the prediction, drawn to what lies around it."""
    if visible.min() == 1:
        return color
    filled = predicted.copy()
    deviation = color - predicted
    for part in (~is_sky, is_sky):
        if part.any():
            filled[part] += CARRIED * spread(deviation, visible * part)[part]
    share = visible[..., None]
    return color * share + filled.clip(0, 1) * (1 - share)
