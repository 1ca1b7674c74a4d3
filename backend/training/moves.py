# SPDX-License-Identifier: GPL-3.0-or-later
"""Random camera moves through a training scene, and the six canonical ones of the model card."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..projection.scene import RayScene
from ..protocol.camera_path import CameraPath
from .scenes import TrainingScene

MOVES = ("pan", "tilt", "dolly", "truck", "crane", "orbit", "zoom", "free")
CANONICAL = ("pan left", "pan right", "dolly in", "dolly out", "orbit left", "orbit right")
IMAGE_SIZE = (1280, 704)
NEAREST_M = 0.6


class NoPathFound(Exception):
    """The scene leaves the camera no room for the move; draw another scene."""


class Viewpoint:
    """Where the camera starts: it looks along +y, a little aside, from 1 to 4.5 m above the ground.

    Attributes:
        position: (3,) world, metres.
        yaw, pitch: radians, to the left of +y and up.
        focal: focal length in widths of the picture.
        reach_m: length of a full dolly; the other moves go by it.
    """

    def __init__(self, rng: np.random.Generator, extent_m: float) -> None:
        self.position = np.array(
            [rng.normal(0, 1), rng.uniform(-0.15, 0.1) * extent_m, np.exp(rng.uniform(0, np.log(4.5)))]
        )
        self.yaw = rng.normal(0, np.radians(14))
        self.pitch = rng.normal(np.radians(-4), np.radians(4))
        self.focal = 0.5 / np.tan(np.radians(rng.uniform(42, 75)) / 2)
        self.reach_m = rng.uniform(0.12, 0.35) * extent_m


def random_path(rng: np.random.Generator, scene: TrainingScene, rays: RayScene, frames: int) -> CameraPath:
    """One random move that hits nothing and sees the scene. Raises NoPathFound."""
    for _ in range(12):
        view = Viewpoint(rng, scene.extent_m)
        move = _random_move(rng, MOVES[rng.integers(len(MOVES))], view.reach_m)
        path = _follow(view, move, _ease(rng, frames))
        if is_free(path, rays):
            return path
    raise NoPathFound


def canonical_paths(
    rng: np.random.Generator, scene: TrainingScene, rays: RayScene, frames: int
) -> dict[str, CameraPath]:
    """The six canonical moves from one viewpoint, by name, each from rest to rest. Raises NoPathFound."""
    ease = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, frames))
    for _ in range(40):
        view = Viewpoint(rng, scene.extent_m)
        turn, walk = np.radians(rng.uniform(10, 16)), rng.uniform(0.35, 0.6) * view.reach_m
        circle = np.radians(rng.uniform(9, 16))
        moves = {
            "pan left": _pan(turn),
            "pan right": _pan(-turn),
            "dolly in": _shift(np.array([0, walk, 0])),
            "dolly out": _shift(np.array([0, -walk, 0])),
            "orbit left": _orbit(-circle, 2.2 * view.reach_m),
            "orbit right": _orbit(circle, 2.2 * view.reach_m),
        }
        paths = {name: _follow(view, move, ease) for name, move in moves.items()}
        if all(is_free(path, rays) for path in paths.values()):
            return paths
    raise NoPathFound


# Progress (F,) -> yaw, pitch (F,), offset (F, 3) in the start's level frame, focal factor (F,).
Move = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


def _random_move(rng: np.random.Generator, name: str, reach_m: float) -> Move:
    sign, size = rng.choice([-1, 1]), rng.uniform(0.3, 1)
    if name == "pan":
        return _pan(sign * size * np.radians(32))
    if name == "tilt":
        return lambda s: (0 * s, sign * size * np.radians(16) * s, _still(s), 1 + 0 * s)
    if name == "zoom":
        factor = np.exp(sign * size * 0.45)
        return lambda s: (0 * s, 0 * s, _still(s), factor**s)
    if name == "orbit":
        return _orbit(sign * size * np.radians(28), reach_m * rng.uniform(1.2, 3))
    if name == "free":
        shift = rng.normal(0, 0.45, 3) * reach_m * [1, 1, 0.3]
        yaw, pitch = rng.normal(0, np.radians(11)), rng.normal(0, np.radians(4))
        return lambda s: (yaw * s, pitch * s, s[:, None] * shift, 1 + 0 * s)
    axis = {"dolly": (0, 1, 0), "truck": (0.6, 0, 0), "crane": (0, 0, 0.5)}[name]
    return _shift(sign * size * reach_m * np.array(axis))


def _pan(angle: float) -> Move:
    return lambda s: (angle * s, 0 * s, _still(s), 1 + 0 * s)


def _shift(offset_m: np.ndarray) -> Move:
    return lambda s: (0 * s, 0 * s, s[:, None] * offset_m, 1 + 0 * s)


def _orbit(angle: float, radius_m: float) -> Move:
    def move(s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        offset = np.stack([radius_m * np.sin(angle * s), radius_m * (1 - np.cos(angle * s)), 0 * s], axis=1)
        return angle * s, 0 * s, offset, 1 + 0 * s

    return move


def _still(s: np.ndarray) -> np.ndarray:
    return np.zeros((len(s), 3))


def _ease(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Progress 0..1: steady, or slow at either end."""
    s = np.linspace(0, 1, frames)
    smooth = s * s * (3 - 2 * s)
    blend = rng.uniform(0, 1)
    return (1 - blend) * s ** rng.uniform(0.8, 1.4) + blend * smooth


def _follow(view: Viewpoint, move: Move, progress: np.ndarray) -> CameraPath:
    yaw, pitch, offset, factor = move(progress)
    cos, sin = np.cos(view.yaw), np.sin(view.yaw)
    level = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    c2w = np.tile(np.eye(4), (len(progress), 1, 1))
    c2w[:, :3, :3] = _rotations(view.yaw + yaw, view.pitch + pitch)
    c2w[:, :3, 3] = view.position + offset @ level.T
    width, height = IMAGE_SIZE
    focal_px = view.focal * factor * width
    centre = np.ones_like(focal_px)
    intrinsics = np.stack([focal_px, focal_px, centre * width / 2, centre * height / 2], axis=1)
    return CameraPath(c2w, intrinsics, IMAGE_SIZE)


def _rotations(yaw: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """(F, 3, 3) with columns right, down, forward; yaw turns left about z from +y, pitch looks up."""
    zero = np.zeros_like(yaw)
    right = np.stack([np.cos(yaw), np.sin(yaw), zero], axis=-1)
    forward = np.stack([-np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)], axis=-1)
    return np.stack([right, np.cross(forward, right), forward], axis=-1)


def is_free(path: CameraPath, rays: RayScene) -> bool:
    """Nothing close before the lens, nothing between the stations, and the start sees more than sky."""
    stations = np.linspace(0, len(path) - 1, 5).astype(int)
    small = path.fitted_to((20, 11))
    for index in stations:
        hits = rays.cast(small.c2w[index], small.intrinsics[index], (20, 11), 0)
        if hits.depth_m.min() < NEAREST_M or hits.is_sky.mean() > 0.65 or small.c2w[index, 2, 3] < 0.4:
            return False
    places = path.c2w[stations, :3, 3]
    return bool(rays.visible_between(places[:-1], places[1:], 0).all())
