# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the lens as wide as asked? Told by the points of the first frame, while they stay in view.

With another focal length the first frame's points lie elsewhere on the blockout, and only with the right one do all of
them fit one pose in the frames that follow.
"""

from __future__ import annotations

import numpy as np

from ..projection.scene import RayScene
from ..protocol import CameraPath
from .motion import camera_matrix, pixel_directions
from .pose import FIT_PX, refine_pose
from .tracker import Tracked

CANDIDATES = np.geomspace(0.8, 1.25, 13)
# The first frame's points are looked at in every fourth frame, as long as so many are left.
EVERY = 4
MOST_LOOKS = 8
FEWEST_POINTS = 60
# The candidates beside the best one have to fit so much worse, in square pixels, or the picture does not tell.
LEAST_BEND = 0.04


class LensLooks:
    """Collects looks at the first frame's points.

    Args:
        rays: the blockout.
        path: the planned camera for pictures of the tracked size; delivered frame i shows sample i + pose_offset.
    """

    def __init__(self, rays: RayScene, path: CameraPath, pose_offset: int) -> None:
        self._rays, self._path, self._offset = rays, path, pose_offset
        self._first: Tracked | None = None
        self._looks: list[tuple[int, Tracked]] = []
        self._frame = -1

    def add(self, tracked: Tracked) -> None:
        """The next frame."""
        self._frame += 1
        if self._first is None:
            self._first = tracked
        elif self._frame % EVERY == 0 and len(self._looks) < MOST_LOOKS and tracked.c2w is not None:
            if self._usable(tracked).sum() >= FEWEST_POINTS:
                self._looks.append((self._frame, tracked))

    def focal_scale(self) -> float | None:
        """Focal length that is seen / planned one; None if the motion does not tell it."""
        if not self._looks:
            return None
        costs = np.array([self._cost(scale) for scale in CANDIDATES])
        best = int(costs.argmin())
        if not 0 < best < len(costs) - 1:
            return None
        left, middle, right = costs[best - 1 : best + 2]
        bend = left - 2 * middle + right
        if bend < LEAST_BEND * (1 + middle):
            return None
        return float(CANDIDATES[best] * (CANDIDATES[1] / CANDIDATES[0]) ** (0.5 * (left - right) / bend))

    def _cost(self, scale: float) -> float:
        """Mean square misfit in pixels with so much of the planned focal length."""
        lens = np.array([scale, scale, 1, 1])
        directions = pixel_directions(self._first.pixels, self._intrinsics(0) * lens, self._first.c2w)
        eye = self._first.c2w[:3, 3]
        depth, _ = self._rays.first_hits(eye, directions, self._sample(0))
        points = eye + depth[:, None] * directions
        return float(np.mean([self._misfit(points, frame, seen, lens) for frame, seen in self._looks]))

    def _misfit(self, points: np.ndarray, frame: int, seen: Tracked, lens: np.ndarray) -> float:
        known = self._usable(seen)
        known[known] = np.isfinite(points[seen.numbers[known]]).all(1)
        points, pixels = points[seen.numbers[known]], seen.pixels[known]
        matrix = camera_matrix(self._intrinsics(frame) * lens)
        pose = refine_pose(points, pixels, matrix, seen.c2w)
        local = (points - pose[:3, 3]) @ pose[:3, :3] @ matrix.T
        error = np.linalg.norm(local[:, :2] / local[:, 2:] - pixels, axis=1)
        return float((np.minimum(error, FIT_PX) ** 2).mean())

    def _usable(self, seen: Tracked) -> np.ndarray:
        """(N,) bool: points of the first frame whose surface is known."""
        return seen.on_surface & (seen.numbers < len(self._first.numbers))

    def _sample(self, frame: int) -> int:
        return min(frame + self._offset, len(self._path) - 1)

    def _intrinsics(self, frame: int) -> np.ndarray:
        return self._path.intrinsics[self._sample(frame)]
