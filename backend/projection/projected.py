# SPDX-License-Identifier: GPL-3.0-or-later
"""Every frame of a camera path from the first frame and the blockout alone: carried along, then completed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..protocol.blockout import Blockout
from ..protocol.camera_path import CameraPath
from .fill import GuidedFill, Sun, spread
from .scene import Hits, RayScene
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
    projection = Projection(blockout, path, first_frame, size)
    for sample in range(len(path)) if samples is None else samples:
        yield projection.frame(sample)


class Projection:
    """Completes frames of a path one at a time, each by itself.

    A frame shows the first frame's pixels where it can. Elsewhere it shows what the fill predicts, corrected by how
    the first frame deviates from that prediction around the hole.

    Arguments as for `project`, and `sun` as for GuidedFill, also as what was found.
    """

    def __init__(
        self,
        blockout: Blockout,
        path: CameraPath,
        first_frame: np.ndarray,
        size: tuple[int, int],
        sun: Sun = "search",
    ) -> None:
        self._path, self._scene = path.fitted_to(size), RayScene(blockout)
        pose, hits = self._seen_from(0)
        self._fill = GuidedFill(self._scene, hits, *pose, first_frame, sun)
        self.sun = self._fill.sun
        everywhere = np.ones(hits.depth_m.shape, bool)
        deviation = first_frame - self._fill.predict(hits, *pose, 0, everywhere)
        values = np.concatenate([first_frame, deviation], axis=2)
        self._first = FirstFrameWarp(self._scene, self._path, hits, values)

    def frame(self, sample: int) -> ProjectedFrame:
        """Raises ProtocolError if the blockout has no motion for the sample."""
        pose, hits = self._seen_from(sample)
        warped = self._first.warp(hits, sample)
        base, visible = warped.values[..., :3], warped.visible
        if visible.min() < 1:
            predicted = self._fill.predict(hits, *pose, sample, visible < 1)
            deviation, share = np.zeros_like(base), visible[..., None]
            for part in (~hits.is_sky, hits.is_sky):
                if part.any():
                    deviation[part] = CARRIED * spread(warped.values[..., 3:], visible * part)[part]
            base = base * share + (predicted + deviation).clip(0, 1) * (1 - share)
        return ProjectedFrame(base, hits.color, visible, 1 / hits.depth_m, hits.is_sky)

    def _seen_from(self, sample: int) -> tuple[tuple[np.ndarray, np.ndarray], Hits]:
        pose = self._path.c2w[sample], self._path.intrinsics[sample]
        return pose, self._scene.cast(*pose, self._path.image_size, sample)
