# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame carried along the camera path by the blockout's depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..protocol.camera_path import CameraPath
from .scene import Hits, RayScene

# Two inverse depths are one surface within this share and this rest (1/m). Tight, because the surface's
# slope is taken into account; the share leaves room for facets smaller than a pixel.
SAME_SURFACE_SHARE, SAME_SURFACE_REST = 0.03, 2e-4


@dataclass(frozen=True, eq=False)
class Warped:
    """The first frame seen from another pose.

    Attributes:
        values: (H, W, C) float32, what is known of each pixel; meaningless where `visible` is 0.
        visible: (H, W) float32, share of the pixel that the first frame shows, 0..1.
    """

    values: np.ndarray
    visible: np.ndarray


class FirstFrameWarp:
    """Backward warp with an occlusion test for each of the four pixels that a sample is mixed from.

    Args:
        scene: the blockout.
        path: the camera path, for images of the first frame's size.
        hits: what its first pose sees of the blockout.
        values: (H, W, C) float32, what is known of each pixel of the first frame, such as its colour.
    """

    def __init__(self, scene: RayScene, path: CameraPath, hits: Hits, values: np.ndarray) -> None:
        self._scene, self._path, self._values = scene, path, values
        # A border of nan: pixels outside of the first frame agree with nothing.
        self._inverse_depth = np.pad(1 / hits.depth_m, 1, constant_values=np.nan)
        # 0 for what stands still, else a number for each moving object, from 1 again after 255; the last entry
        # is the sky's.
        self._part_of_object = np.zeros(len(scene.blockout.object_names) + 1, np.uint8)
        self._part_of_object[scene.blockout.moving] = 1 + np.arange(len(scene.blockout.moving)) % 255
        self._parts = self._part_of_object[hits.object_id]
        self._edges = _edges(hits, self._parts)

    def warp(self, hits: Hits, sample: int) -> Warped:
        """The first frame as seen from the pose that `hits` was cast from."""
        width, height = self._path.image_size
        u, v, inverse_depth, slope_u, slope_v = self._in_first_frame(hits, sample)
        u, v = _snapped(u), _snapped(v)
        sky = hits.is_sky
        inside = (u > -1) & (v > -1) & (u < width) & (v < height)
        u, v = (np.where(inside, place, -1) for place in (u, v))
        left, top = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
        right_share, low_share = u - left, v - top
        tolerance = SAME_SURFACE_SHARE * inverse_depth + SAME_SURFACE_REST
        parts = self._part_of_object[hits.object_id]
        # Where the first frame mixes two surfaces, it shows what mixes them too.
        at_edge = _edges(hits, parts)
        mixed = np.zeros(self._values.shape, np.float32)
        visible = np.zeros((height, width), np.float32)
        flat_depth = self._inverse_depth.ravel()
        flat_values = self._values.reshape(width * height, -1)
        for step_v, share_v in ((0, 1 - low_share), (1, low_share)):
            for step_u, share_u in ((0, 1 - right_share), (1, right_share)):
                across, down = left + step_u, top + step_v
                found = flat_depth[(down + 1) * (width + 2) + across + 1]
                expected = inverse_depth + slope_u * (across - u) + slope_v * (down - v)
                agrees = np.where(sky, found == 0, (np.abs(found - expected) < tolerance) & (found > 0))
                nearest = np.clip(down, 0, height - 1) * width + np.clip(across, 0, width - 1)
                agrees &= at_edge | ~self._edges.ravel()[nearest]
                agrees &= parts == self._parts.ravel()[nearest]
                share = share_u * share_v * agrees
                mixed += share[..., None] * flat_values[nearest]
                visible += share
        values = mixed / np.maximum(visible, 1e-6)[..., None]
        return Warped(values, np.where(inside, visible, 0))

    def _in_first_frame(self, hits: Hits, sample: int) -> tuple[np.ndarray, ...]:
        """Where each pixel's surface is in the first frame: column, row (integer = pixel centre), inverse
        depth, and the surface's change of inverse depth per column and row. Columns far outside mark
        surfaces behind the first camera or turned away from it."""
        width, height = self._path.image_size
        fx, fy, cx, cy = self._path.intrinsics[sample].astype(np.float32)
        across = (np.arange(width, dtype=np.float32) + np.float32(0.5) - cx) / fx
        down = ((np.arange(height, dtype=np.float32) + np.float32(0.5) - cy) / fy)[:, None]
        world_to_first = np.linalg.inv(self._path.c2w[0])
        rest, which = self._scene.rest_from_world(hits.object_id, sample)
        sky = hits.is_sky
        point, normal = np.empty((3, height, width), np.float32), np.empty((3, height, width), np.float32)
        inverse_depth = 1 / hits.depth_m
        for index, rest_from_world in enumerate(rest):
            to_first = world_to_first @ rest_from_world
            turn = (to_first @ self._path.c2w[sample]).astype(np.float32)
            turn_normal = np.linalg.inv(to_first[:3, :3]).T.astype(np.float32)
            for axis in range(3):
                # Divided by the depth, so that the sky is a point at infinity: its direction.
                along = (
                    turn[axis, 0] * across
                    + turn[axis, 1] * down
                    + turn[axis, 2]
                    + turn[axis, 3] * inverse_depth
                )
                facing = hits.normals @ turn_normal[axis]
                if index == 0:
                    point[axis], normal[axis] = along, facing
                else:
                    moved = which == index
                    point[axis][moved], normal[axis][moved] = along[moved], facing[moved]
        fx, fy, cx, cy = self._path.intrinsics[0].astype(np.float32)
        plane = normal[0] * point[0] + normal[1] * point[1] + normal[2] * point[2]
        seen = (point[2] > 1e-6) & ((plane < 0) | sky)
        ahead, plane = np.where(seen, point[2], 1), np.where(plane < 0, plane, -1)
        u = np.where(seen, fx * point[0] / ahead + (cx - np.float32(0.5)), -1e6)
        v = np.where(seen, fy * point[1] / ahead + (cy - np.float32(0.5)), -1e6)
        # Inverse depth is affine in pixels on a plane: n.x = n.p along the ray (x, y, 1) of a pixel.
        first_depth = inverse_depth / ahead
        slope_u, slope_v = (
            np.where(sky, 0, inverse_depth * normal[axis] / (plane * focal))
            for axis, focal in ((0, fx), (1, fy))
        )
        return u, v, first_depth, slope_u, slope_v


def _snapped(place: np.ndarray) -> np.ndarray:
    """On the pixel centre where it is next to it: a camera at rest must not blur by rounding."""
    centre = np.rint(place)
    return np.where(np.abs(place - centre) < 2e-3, centre, place)


def _edges(hits: Hits, parts: np.ndarray) -> np.ndarray:
    """(H, W) bool, pixels beside a jump in depth or beside another moving part: there two surfaces mix.

    Inverse depth is affine on planes, so that its second difference finds jumps at any slope.
    """
    inverse_depth = 1 / hits.depth_m
    smooth = cv2.blur(inverse_depth, (3, 3), borderType=cv2.BORDER_REFLECT_101)
    jumps = np.abs(smooth - inverse_depth) > 0.01 * np.maximum(smooth, inverse_depth)
    around = np.ones((3, 3), np.uint8)
    return jumps | (cv2.dilate(parts, around) != cv2.erode(parts, around))
