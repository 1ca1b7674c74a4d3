# SPDX-License-Identifier: GPL-3.0-or-later
"""Every frame of a camera path from the first frame and the blockout alone: carried along, then completed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..protocol.blockout import Blockout
from ..protocol.camera_path import CameraPath
from .fill import GuidedFill, spread
from .scene import Hits, RayScene
from .warp import FrameWarp

# How much of the visible surroundings' deviation is carried into a hole.
CARRIED = 0.8
# Every frame of this distance is a key frame: what was carried into its holes stays there in the frames after it.
KEY_FRAMES = 24
# More key frames than the last are kept, for those who look back a little.
_KEPT = 3


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
    """Completes frames of a path one at a time, in constant memory and quickest in order.

    A frame shows the first frame's pixels where it can. Elsewhere it shows what the fill predicts, and how the
    pictures deviate from that prediction: the first frame's deviation spread over the hole, or, where the key
    frame before has a hole too, the deviation that was spread there. So what a hole shows stays with its surface
    when the camera goes on to where the first frame is no longer in sight. A frame depends on its number alone,
    not on which frames were asked for before it.

    Arguments as for `project`.
    """

    def __init__(
        self, blockout: Blockout, path: CameraPath, first_frame: np.ndarray, size: tuple[int, int]
    ) -> None:
        self._path, self._scene = path.fitted_to(size), RayScene(blockout)
        hits = self._cast(0)
        pose = self._path.c2w[0], self._path.intrinsics[0]
        self._fill = GuidedFill(self._scene, hits, *pose, first_frame)
        everywhere = np.ones(hits.depth_m.shape, bool)
        deviation = first_frame - self._fill.predict(hits, *pose, 0, everywhere)
        values = np.concatenate([first_frame, deviation], axis=2)
        self._first = FrameWarp(self._scene, self._path, 0, hits, values)
        self._keys: dict[int, FrameWarp] = {}

    def frame(self, sample: int) -> ProjectedFrame:
        """Raises ProtocolError if the blockout has no motion for the sample."""
        last = _key_before(sample)
        self._keys = {key: warp for key, warp in self._keys.items() if key <= last}
        for key in range(max(self._keys, default=0) + KEY_FRAMES, last + 1, KEY_FRAMES):
            self._complete(key)
        return self._complete(sample)

    def _complete(self, sample: int) -> ProjectedFrame:
        hits = self._cast(sample)
        warped = self._first.warp(hits, sample)
        color, deviation, visible = warped.values[..., :3], warped.values[..., 3:], warped.visible
        base, share = color, visible[..., None]
        if visible.min() < 1:
            pose = self._path.c2w[sample], self._path.intrinsics[sample]
            predicted = self._fill.predict(hits, *pose, sample, visible < 1)
            carried = self._carried(hits, sample, deviation, visible)
            base = color * share + (predicted + carried).clip(0, 1) * (1 - share)
            deviation = deviation * share + carried * (1 - share)
        if sample and sample % KEY_FRAMES == 0:
            self._keys[sample] = FrameWarp(self._scene, self._path, sample, hits, deviation)
            self._keys = dict(list(self._keys.items())[-_KEPT:])
        return ProjectedFrame(base, hits.color, visible, 1 / hits.depth_m, hits.is_sky)

    def _carried(self, hits: Hits, sample: int, deviation: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """(H, W, 3) float32, how the holes deviate from what is predicted there."""
        carried = np.zeros_like(deviation)
        for part in (~hits.is_sky, hits.is_sky):
            if part.any():
                carried[part] = CARRIED * spread(deviation, visible * part)[part]
        if _key_before(sample) == 0:
            return carried
        before = self._keys[_key_before(sample)].warp(hits, sample)
        share = before.visible[..., None]
        return before.values * share + carried * (1 - share)

    def _cast(self, sample: int) -> Hits:
        pose = self._path.c2w[sample], self._path.intrinsics[sample]
        return self._scene.cast(*pose, self._path.image_size, sample)


def _key_before(sample: int) -> int:
    return max(0, sample - 1) // KEY_FRAMES * KEY_FRAMES
