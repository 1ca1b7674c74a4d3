# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture a training clip is asked to show: textures, sun, hard shadows, fog and sky, by ray casting."""

from __future__ import annotations

import numpy as np

from ..projection.scene import Hits, RayScene, ray_directions
from ..projection.shading import linear_to_srgb
from ..protocol.camera_path import CameraPath
from .scenes import PATTERNS, Look, TrainingScene

SUPERSAMPLING = 2


def render_frame(
    scene: TrainingScene, rays: RayScene, path: CameraPath, sample: int, size: tuple[int, int]
) -> np.ndarray:
    """(H, W, 3) float32 sRGB 0..1 at `size` (width, height), four samples a pixel."""
    fine = (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
    fitted = path.fitted_to(fine)
    c2w, intrinsics = fitted.c2w[sample], fitted.intrinsics[sample]
    hits = rays.cast(c2w, intrinsics, fine, sample)
    if scene.look.viewport:
        picture = hits.color
    else:
        directions = ray_directions(c2w, intrinsics, fine[0], np.arange(fine[1]))
        radiance = _radiance(scene.look, rays, hits, c2w, directions, sample)
        picture = linear_to_srgb(radiance * scene.look.exposure)
    return picture.reshape(size[1], SUPERSAMPLING, size[0], SUPERSAMPLING, 3).mean((1, 3), dtype=np.float32)


def _radiance(
    look: Look, rays: RayScene, hits: Hits, c2w: np.ndarray, directions: np.ndarray, sample: int
) -> np.ndarray:
    directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    picture = _sky(look, directions)
    seen = ~hits.is_sky
    points, normals, owner = hits.points[seen], hits.normals[seen], hits.object_id[seen]
    albedo = _albedo(look, points, normals, owner)
    facing = np.maximum(normals @ look.sun_direction.astype(np.float32), 0)
    lit = np.flatnonzero(facing > 0)
    sunlight = np.zeros(len(points), np.float32)
    start = points[lit] + normals[lit] * 2e-3
    free = rays.visible_between(start, start + look.sun_direction * 200, sample)
    sunlight[lit] = facing[lit] * free
    overhead = 0.55 + 0.45 * normals[:, 2:]
    light = sunlight[:, None] * look.sun + overhead * look.sky_light
    surface = albedo * light
    if look.fog_per_m:
        distance_m = np.linalg.norm(points - c2w[:3, 3], axis=-1)
        clear = np.exp(-look.fog_per_m * distance_m)[:, None]
        surface = surface * clear + look.horizon * (1 - clear)
    picture[seen] = surface
    return picture


def _sky(look: Look, directions: np.ndarray) -> np.ndarray:
    height = np.clip(directions[..., 2:], 0, 1)
    sky = look.horizon + (look.zenith - look.horizon) * np.sqrt(height)
    toward_sun = np.maximum(directions @ look.sun_direction.astype(np.float32), 0)[..., None]
    return (sky + 0.25 * look.sun * toward_sun**12).astype(np.float32)


def _albedo(look: Look, points: np.ndarray, normals: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """(N, 3): each object's pattern in world coordinates, laid on its surface from the side it faces."""
    across, up = _surface_coordinates(points, normals)
    across, up = across / look.period_m[owner], up / look.period_m[owner]
    share = np.zeros(len(points), np.float32)
    kind = look.pattern[owner]
    for index, name in enumerate(PATTERNS):
        chosen = np.flatnonzero(kind == index)
        if len(chosen) and name != "plain":
            share[chosen] = _MIXES[name](across[chosen], up[chosen])
    first, second = look.albedo[owner], look.second_albedo[owner]
    return first + (second - first) * share[:, None]


def _surface_coordinates(points: np.ndarray, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = np.abs(normals[:, 2]) > 0.7
    facing_x = np.abs(normals[:, 0]) > np.abs(normals[:, 1])
    across = np.where(flat | ~facing_x, points[:, 0], points[:, 1])
    return across, np.where(flat, points[:, 1], points[:, 2])


def _checker(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    return (np.floor(across) + np.floor(up)) % 2


def _stripes(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    return (up % 1 < 0.4).astype(np.float32)


def _bricks(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    row = np.floor(up * 2)
    along = across + 0.5 * (row % 2)
    mortar = ((up * 2) % 1 < 0.12) | (along % 1 < 0.06)
    return np.where(mortar, 1.0, 0.5 * _hash(np.floor(along), row))


def _noise(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Two octaves of smooth value noise."""
    return 0.65 * _value_noise(across, up) + 0.35 * _value_noise(across * 2.7 + 17, up * 2.7)


def _value_noise(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    left, low = np.floor(x), np.floor(y)
    fx, fy = x - left, y - low
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    bottom = _hash(left, low) * (1 - fx) + _hash(left + 1, low) * fx
    top = _hash(left, low + 1) * (1 - fx) + _hash(left + 1, low + 1) * fx
    return bottom * (1 - fy) + top * fy


def _hash(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A repeatable value in 0..1 for every cell."""
    mixed = x.astype(np.int64) * 374761393 + y.astype(np.int64) * 668265263
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return ((mixed ^ (mixed >> 16)) & 0xFFFF).astype(np.float32) / 65535


_MIXES = {"checker": _checker, "stripes": _stripes, "bricks": _bricks, "noise": _noise}
