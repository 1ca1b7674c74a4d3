# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows points of the blockout through the clip; where they are says where the camera is.

The first frame is taken to show the blockout from its planned pose. Points are chosen where the picture has corners and
the blockout is, followed by optical flow from frame to frame, and the pose is what carries them there. New points are
cast from the pose that was measured, not from the planned one, so that a wrong camera stays wrong.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from ..projection.scene import RayScene
from ..protocol import FPS, CameraPath
from .motion import camera_matrix, pixel_directions
from .pose import FEWEST_FITTING, FIT_PX, solve_pose

POINTS = 400
# New points come often enough that no part of the picture stays without, and at once when so few are left.
SEED_EVERY = 8
FEWEST_POINTS = 60
# Corners down to this share of the strength of the best one.
QUALITY = 0.005
# With fewer points on surfaces, corners of outlines help: less exact, because what is behind them moves on its own.
FEWEST_ON_SURFACES = 150
# A pose that a smaller share of the points agrees on is a guess.
FITTING_SHARE = 0.25
# There and back again, optical flow must return to where it started.
RETURN_PX = 1.2
BORDER_PX = 6
# A corner may not lie where the blockout's depth jumps within its neighbourhood: it is not one point.
NEIGHBOUR_PX = 5.0
JUMP = 0.03
_FLOW = {"winSize": (15, 15), "maxLevel": 3}
_FLOW_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01)


class NothingToFollow(Exception):
    """The first frame cannot be tracked; the message says why."""


@dataclass(frozen=True, eq=False)
class Tracked:
    """One frame as the tracker understands it.

    Attributes:
        c2w: (4, 4) float64, or None if the camera cannot be told.
        kept: share of the points followed during the last second that fit the blockout within 2 pixels.
        points: (N, 3) float64 world, those which fit.
        pixels: (N, 2) float64, where they are seen; 0 is the centre of the first pixel.
        numbers: (N,) int, one for each point through all frames.
        on_surface: (N,) bool; the others are corners of outlines, whose place is less sure.
    """

    c2w: np.ndarray | None
    kept: float
    points: np.ndarray
    pixels: np.ndarray
    numbers: np.ndarray
    on_surface: np.ndarray


_LOST = Tracked(None, 0.0, np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, bool))


class Tracker:
    """Measures one frame after the other; a frame that it loses leaves the last good one as the reference.

    Args:
        rays: the blockout.
        path: the planned camera for pictures of the tracked size; delivered frame i shows sample i + pose_offset.
    """

    def __init__(self, rays: RayScene, path: CameraPath, pose_offset: int) -> None:
        self._rays, self._path, self._offset = rays, path, pose_offset
        self._frame = -1
        self._reference = np.zeros((0, 0), np.uint8)
        self._pose = path.c2w[self._sample(0)]
        self._points, self._pixels = np.zeros((0, 3)), np.zeros((0, 2), np.float32)
        self._numbers, self._next_number = np.zeros(0, int), 0
        self._on_surface = np.zeros(0, bool)
        self._failed: deque[int] = deque(maxlen=FPS)

    def follow(self, grey: np.ndarray) -> Tracked:
        """Measure the next frame, (H, W) uint8.

        Raises:
            NothingToFollow: it is the first one, and too little of the blockout can be followed in it.
        """
        self._frame += 1
        if self._frame > 0 and not self._measure(grey):
            return _LOST
        self._reference = grey
        kept = len(self._points) / max(len(self._points) + sum(self._failed), 1)
        if len(self._points) < FEWEST_POINTS or self._frame % SEED_EVERY == 0:
            self._seed(grey)
        if self._frame == 0:
            self._require_points(grey.shape)
            kept = 1.0
        pixels = self._pixels.astype(np.float64)
        return Tracked(self._pose, kept, self._points, pixels, self._numbers, self._on_surface)

    def _require_points(self, shape: tuple[int, int]) -> None:
        if len(self._points) >= FEWEST_FITTING:
            return
        v, u = np.meshgrid(*(np.linspace(0.1, 0.9, 12) * side for side in shape), indexing="ij")
        _, on_surface, _ = self._cast(np.column_stack([u.ravel(), v.ravel()]))
        if on_surface.mean() < 0.03:
            raise NothingToFollow("The first frame shows next to nothing of the blockout that stands still.")
        raise NothingToFollow("The first frame has too little detail to follow on the blockout.")

    def _sample(self, frame: int) -> int:
        return min(frame + self._offset, len(self._path) - 1)

    def _intrinsics(self) -> np.ndarray:
        return self._path.intrinsics[self._sample(self._frame)]

    def _measure(self, grey: np.ndarray) -> bool:
        """Move points and pose on to this frame; False, and nothing is moved, if they cannot be found in it."""
        if len(self._points) < FEWEST_FITTING:
            return False
        pixels, found = self._flow(grey)
        if found.sum() < FEWEST_FITTING:
            return False
        matrix = camera_matrix(self._intrinsics())
        pose = solve_pose(self._points[found], pixels[found], matrix, self._pose)
        if pose is None:
            return False
        error, seen = self._errors(pose, matrix, pixels, grey.shape)
        fits = found & seen & (error < FIT_PX)
        if fits.sum() < max(FEWEST_FITTING, FITTING_SHARE * seen.sum()):
            return False
        # A corner of an outline may never have been a point of the set.
        self._failed.append(int((seen & ~fits & self._on_surface).sum()))
        self._pose = pose
        self._points, self._pixels = self._points[fits], pixels[fits]
        self._numbers, self._on_surface = self._numbers[fits], self._on_surface[fits]
        return True

    def _flow(self, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the points are in this frame, and which were found."""
        start = self._pixels
        pixels, there, _ = cv2.calcOpticalFlowPyrLK(
            self._reference, grey, start, None, criteria=_FLOW_STOP, **_FLOW
        )
        back, again, _ = cv2.calcOpticalFlowPyrLK(
            grey, self._reference, pixels, None, criteria=_FLOW_STOP, **_FLOW
        )
        returned = np.linalg.norm(back - start, axis=1) < RETURN_PX
        return pixels, (there[:, 0] > 0) & (again[:, 0] > 0) & returned

    def _errors(
        self, pose: np.ndarray, matrix: np.ndarray, pixels: np.ndarray, shape: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each point's pixel from where the pose puts it, and whether it can be seen from there."""
        local = (self._points - pose[:3, 3]) @ pose[:3, :3]
        ahead = local[:, 2] > 1e-6
        where = local @ matrix.T
        where = where[:, :2] / np.where(ahead, where[:, 2], 1)[:, None]
        low, high = BORDER_PX, np.array(shape[::-1]) - 1 - BORDER_PX
        seen = ahead & (where > low).all(1) & (where < high).all(1)
        distance, hit = self._rays.first_hits(
            pose[:3, 3], self._points - pose[:3, 3], self._sample(self._frame)
        )
        seen &= (distance > 1 - JUMP) & ~np.isin(hit, self._rays.blockout.moving)
        return np.linalg.norm(where - pixels, axis=1), seen

    def _seed(self, grey: np.ndarray) -> None:
        """Points at corners of the picture that are still free, where the blockout stands still and is one surface."""
        wanted = POINTS - len(self._points)
        if wanted <= 0:
            return
        height, width = grey.shape
        spacing = np.sqrt(width * height / POINTS) * 0.5
        free = np.zeros_like(grey)
        free[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] = 255
        for u, v in self._pixels:
            cv2.circle(free, (round(float(u)), round(float(v))), round(spacing), 0, -1)
        corners = cv2.goodFeaturesToTrack(grey, wanted, QUALITY, spacing, mask=free, blockSize=5)
        if corners is None:
            return
        pixels = corners.reshape(-1, 2)
        points, on_surface, on_outline = self._cast(pixels)
        lacking = max(0, FEWEST_ON_SURFACES - len(self._points) - int(on_surface.sum()))
        chosen = np.concatenate([np.flatnonzero(on_surface), np.flatnonzero(on_outline)[:lacking]])
        self._points = np.concatenate([self._points, points[chosen]])
        self._pixels = np.concatenate([self._pixels, pixels[chosen]])
        self._numbers = np.concatenate([self._numbers, self._next_number + np.arange(len(chosen))])
        self._on_surface = np.concatenate([self._on_surface, on_surface[chosen]])
        self._next_number += len(chosen)

    def _cast(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World points seen at (N, 2) pixels from the measured pose; which lie on a surface, and which on an outline.

        What moves, and the sky, is neither. A point on an outline belongs to what is in front.
        """
        around = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]]) * NEIGHBOUR_PX
        places = (pixels[None] + around[:, None]).reshape(-1, 2)
        directions = pixel_directions(places, self._intrinsics(), self._pose)
        depth, hit = self._rays.first_hits(self._pose[:3, 3], directions, self._sample(self._frame))
        depth, hit = depth.reshape(5, -1), hit.reshape(5, -1)
        still = ~np.isin(hit, self._rays.blockout.moving).any(0)
        # Inverse depth is linear over a plane, so that the middle is the mean of opposite neighbours.
        inverse = 1 / depth
        bend = np.abs(inverse[[1, 3]] + inverse[[2, 4]] - 2 * inverse[0]).max(0)
        on_surface = still & (hit >= 0).all(0) & (bend < JUMP * inverse[0])
        on_outline = still & (hit >= 0).any(0) & ~on_surface
        reach = np.where(on_surface, depth[0], np.where(on_outline, depth.min(0), 0))
        return self._pose[:3, 3] + reach[:, None] * directions[: len(pixels)], on_surface, on_outline
