# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of a clip to its CameraMatch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np

from ..projection.scene import RayScene
from ..protocol import FPS, Blockout, CameraMatch, CameraPath
from ..protocol.camera_match import KEPT_LEAST
from . import picture
from .comparison import Comparison, compare
from .lens import LensLooks
from .tracker import NothingToFollow, Tracked, Tracker

# Frames are tracked at the whole fraction of their size that is nearest to this width.
TRACKED_WIDTH = 640
SLIDE_LINES = 1080
# Points whose place is kept until the lag is known.
SLIDE_POINTS = 48
RESOLVED_PX = 2.0
DIGITS = 4


@dataclass(eq=False)
class _Seen:
    """What is kept of the frames: a few kilobytes each."""

    poses: list[np.ndarray] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    thumbnails: list[np.ndarray] = field(default_factory=list)

    def add(self, tracked: Tracked, grey: np.ndarray) -> None:
        self.poses.append(np.full((4, 4), np.nan) if tracked.c2w is None else tracked.c2w)
        self.kept.append(tracked.kept)
        some = slice(None, None, max(1, len(tracked.points) // SLIDE_POINTS))
        self.points.append(tracked.points[some].copy())
        self.pixels.append(tracked.pixels[some].copy())
        self.sharpness.append(np.nan if tracked.c2w is None else picture.sharpness(grey))
        self.thumbnails.append(picture.thumbnail(grey))


def match_camera(
    frames: Iterable[np.ndarray],
    blockout: Blockout | None,
    path: CameraPath,
    pose_offset: int,
    on_frame: Callable[[int], None] = lambda count: None,
) -> CameraMatch:
    """Measure whether a clip follows its camera.

    Args:
        frames: delivered frames, (H, W, 3) uint8; they are looked at one by one and not kept.
        blockout: what the clip shows; None if it is not known.
        path: the shot's camera, fitted to the clip's size.
        pose_offset: delivered frame i shows camera sample i + pose_offset.
        on_frame: called with the number of frames that were measured; whatever it raises ends the measurement.
    """
    if blockout is None or not len(blockout.faces):
        return CameraMatch(unmeasured="The shot has no blockout to compare the clip with.")
    size = tracked_size(path.image_size)
    scale = np.array(size) / path.image_size
    small_path = CameraPath(path.c2w, path.intrinsics * [*scale, *scale], size)
    rays, seen = RayScene(blockout), _Seen()
    tracker, lens = (kind(rays, small_path, pose_offset) for kind in (Tracker, LensLooks))
    for count, frame in enumerate(frames, 1):
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if grey.shape != size[::-1]:
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        try:
            tracked = tracker.follow(grey)
        except NothingToFollow as reason:
            return CameraMatch(unmeasured=str(reason))
        seen.add(tracked, grey)
        lens.add(tracked)
        on_frame(count)
    if len(seen.poses) < 2:
        return CameraMatch(unmeasured="The clip has no second frame to compare with its first.")
    return _matched(seen, small_path, pose_offset, lens.focal_scale())


def tracked_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) at which frames of `image_size` are tracked."""
    parts = max(1, round(image_size[0] / TRACKED_WIDTH))
    return round(image_size[0] / parts), round(image_size[1] / parts)


def _matched(seen: _Seen, path: CameraPath, pose_offset: int, focal_scale: float | None) -> CameraMatch:
    estimated = np.stack(seen.poses)
    focal_px = float(path.intrinsics[0, 0])
    depth_m = float(np.median((seen.points[0] - estimated[0, :3, 3]) @ estimated[0, :3, 2]))
    found = compare(estimated, path.c2w, pose_offset, focal_px, depth_m)
    until, lost_from = _until(seen.kept, estimated)
    sharp = np.array(seen.sharpness)
    thumbnail_focal = focal_px * picture.THUMBNAIL_WIDTH / path.image_size[0]
    revisit = picture.revisit_db(np.stack(seen.thumbnails), found.planned, thumbnail_focal, depth_m)
    return CameraMatch(
        path_length_m=_rounded(found.path_length_m),
        resolution_m=_rounded(RESOLVED_PX * depth_m / focal_px),
        lag_s=_rounded(found.lag_s),
        path_scale=_rounded(found.path_scale),
        turn_scale=_rounded(found.turn_scale),
        focal_scale=_rounded(focal_scale),
        heading_deg=_curve(found.heading_deg),
        position_m=_curve(found.position_m),
        position_scaled_m=_curve(found.position_scaled_m),
        slide_px=_curve(_slide(seen, path, pose_offset, found) * SLIDE_LINES / path.image_size[1], 2),
        kept=_curve(np.array(seen.kept), 3),
        sharpness=_curve(sharp / max(float(np.nanmedian(sharp[:FPS])), 1e-6), 3),
        revisit_db=_rounded(revisit, 2),
        matches_until_s=_rounded(until),
        lost_from_s=_rounded(lost_from),
        softer=_rounded(picture.softer(sharp)),
        estimated=[
            None if np.isnan(pose).any() else [round(float(v), 5) for v in pose[:3].ravel()]
            for pose in estimated
        ],
    )


def _slide(seen: _Seen, path: CameraPath, pose_offset: int, found: Comparison) -> np.ndarray:
    """(F,) median distance in pixels between points of the set and where the planned camera sees them."""
    slide = np.full(len(seen.poses), np.nan)
    for frame, (points, pixels, pose) in enumerate(zip(seen.points, seen.pixels, found.planned, strict=True)):
        local = (points - pose[:3, 3]) @ pose[:3, :3]
        ahead = local[:, 2] > 1e-3
        if ahead.any():
            fx, fy, cx, cy = path.intrinsics[min(frame + pose_offset, len(path) - 1)]
            where = local[ahead, :2] / local[ahead, 2:] * [fx, fy] + [cx - 0.5, cy - 0.5]
            slide[frame] = np.median(np.linalg.norm(where - pixels[ahead], axis=1))
    return slide


def _until(kept: list[float], estimated: np.ndarray) -> tuple[float, float | None]:
    """Until when the picture shows the blockout, and from when on the camera cannot be told; seconds."""
    frames = len(kept)
    told = np.flatnonzero(np.isfinite(estimated[:, 0, 0]))
    lost_from = None if told[-1] == frames - 1 else (int(told[-1]) + 1) / FPS
    poor = (start for start in range(0, frames, FPS) if np.mean(kept[start : start + FPS]) < KEPT_LEAST)
    until = next(poor, frames) / FPS
    return min(until, lost_from if lost_from is not None else until), lost_from


def _rounded(value: float | None, digits: int = DIGITS) -> float | None:
    return None if value is None else round(float(value), digits)


def _curve(values: np.ndarray, digits: int = DIGITS) -> list[float | None]:
    return [round(float(value), digits) if np.isfinite(value) else None for value in values]
