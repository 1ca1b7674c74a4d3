# SPDX-License-Identifier: GPL-3.0-or-later
"""Every frame of a camera path from the first frame and the blockout alone: carried along, then completed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..protocol.blockout import Blockout
from ..protocol.camera_path import CameraPath
from .fill import GuidedFill, Sun, spread
from .scene import Hits, RayScene, pixel_rays
from .warp import FirstFrameWarp, Warped

# How much of the visible surroundings' deviation is carried into a hole.
CARRIED = 0.8
# Neighbours that differ by this much in any channel have an edge between them.
_STEP = 0.02
_PLACES = tuple((x, y) for y in (0.25, 0.75) for x in (0.25, 0.75))

# (4, 4) c2w and (4,) intrinsics.
Pose = tuple[np.ndarray, np.ndarray]


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
            share = visible[..., None]
            base = base * share + self._filled(warped, pose, hits, sample) * (1 - share)
        return ProjectedFrame(base, hits.color, visible, 1 / hits.depth_m, hits.is_sky)

    def _filled(self, warped: Warped, pose: Pose, hits: Hits, sample: int) -> np.ndarray:
        """(H, W, 3), what the fill predicts where the first frame does not show everything."""
        visible, wanted = warped.visible, warped.visible < 1
        around = [
            CARRIED * spread(warped.values[..., 3:], visible * part)
            if part.any()
            else np.zeros_like(hits.color)
            for part in (~hits.is_sky, hits.is_sky)
        ]
        predicted = self._fill.predict(hits, *pose, sample, wanted)
        filled = (predicted + np.where(hits.is_sky[..., None], around[1], around[0])).clip(0, 1)
        steps = _steps(filled) & wanted
        if steps.any():
            filled[steps] = self._mixed(steps, [deviation[steps] for deviation in around], pose, sample)
        return filled

    def _mixed(self, wanted: np.ndarray, around: list[np.ndarray], pose: Pose, sample: int) -> np.ndarray:
        """(N, 3), the mean over four places in each of N pixels: edges come out smooth, as in the first frame.

        Args:
            wanted: (H, W) bool, the pixels.
            around: (N, 3) twice, what to add to solid things and to the sky.
        """
        down, across = np.nonzero(wanted)
        total = np.zeros((len(down), 3), np.float32)
        for x, y in _PLACES:
            rays = pixel_rays(*pose, across + x, down + y)
            seen = self._scene.cast_rays(pose[0][:3, 3], rays, sample)
            predicted = self._fill.predict_rays(seen, rays, sample)[0]
            total += (predicted + np.where(seen.is_sky[0, :, None], around[1], around[0])).clip(0, 1)
        return total / len(_PLACES)

    def _seen_from(self, sample: int) -> tuple[Pose, Hits]:
        pose = self._path.c2w[sample], self._path.intrinsics[sample]
        return pose, self._scene.cast(*pose, self._path.image_size, sample)


def _steps(picture: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels that differ plainly from one of their neighbours in (H, W, 3)."""
    found = np.zeros(picture.shape[:2], bool)
    for axis in (0, 1):
        edge = (np.abs(np.diff(picture, axis=axis)) > _STEP).any(-1)
        before, after = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        found[before] |= edge
        found[after] |= edge
    return found
