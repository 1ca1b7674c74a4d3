# SPDX-License-Identifier: GPL-3.0-or-later
"""A room with boxes, painted all over, and the clip that a camera films in it."""

from __future__ import annotations

import cv2
import numpy as np

from backend.projection.scene import RayScene, ray_directions
from backend.protocol import Blockout, CameraPath
from backend.training import shapes

FRAMES = 33
SIZE = (320, 176)
MOVER = 8


def room(deeper: float = 1.0, back_m: float = 14.0, motion: np.ndarray | None = None) -> Blockout:
    """A floor, a back wall, two side walls and boxes; `motion` (F, 4, 4) moves one more box."""
    boxes = [
        ((20, 40, 0.1), (0, 10, -0.1)),
        ((20, 0.3, 7), (0, back_m, 0)),
        ((0.3, 40, 7), (-4.5, 10, 0)),
        ((0.3, 40, 7), (5, 10, 0)),
        ((1.4, 1.2, 1.6), (-1.8, 5, 0)),
        ((1.2, 1.5, 1.1), (1.6, 6.5, 0)),
        ((1.5, 1.5, 2.6), (-2.4, 9, 0)),
        ((2.0, 1.0, 1.9), (2.2, 10.5, 0)),
        ((0.9, 0.9, 1.8), (0.4, 3.6, 0)),
    ]
    if motion is None:
        boxes.pop(MOVER)
    meshes = []
    for index, (size, place) in enumerate(boxes):
        depth = deeper if 4 <= index else 1.0
        placed = np.array(place) + [0, size[1] * (depth - 1) / 2, 0]
        meshes.append(shapes.turned(shapes.box(np.array(size) * [1, depth, 1]), 0.3 * (index > 3), placed))
    vertices, faces = shapes.joined(meshes)
    return Blockout(
        vertices=vertices,
        faces=faces,
        face_object=np.repeat(np.arange(len(meshes)), [len(mesh[1]) for mesh in meshes]),
        object_names=np.array([f"object {index}" for index in range(len(meshes))]),
        object_colors=np.full((len(meshes), 3), 0.6),
        moving=np.array([] if motion is None else [MOVER]),
        motion=np.zeros((0, 1, 4, 4)) if motion is None else motion[None],
        background=np.full(3, 0.8),
    )


def camera(frames: int = FRAMES, size: tuple[int, int] = SIZE, share: float = 1.0) -> CameraPath:
    """Walks 2 m forward in 2 s and looks about; `share` of the way is walked."""
    time = np.arange(frames) / 32
    places = np.stack([0.25 * np.sin(2.2 * time), 2.0 * time, 1.5 + 0.04 * np.sin(9 * time)], axis=1)
    return looking(
        places[0] + share * (places - places[0]), 8 * np.sin(2.5 * time), 3 * np.sin(3.1 * time), size
    )


def looking(
    places: np.ndarray, yaw_deg: np.ndarray, pitch_deg: np.ndarray, size: tuple[int, int], lens: float = 1.0
) -> CameraPath:
    """At `places` (F, 3), along +y, turned left by `yaw_deg` and up by `pitch_deg`."""
    c2w = np.tile(np.eye(4), (len(places), 1, 1))
    for pose, yaw, pitch in zip(c2w, np.radians(yaw_deg), np.radians(pitch_deg), strict=True):
        turn = cv2.Rodrigues(np.array([0, 0, yaw]))[0] @ cv2.Rodrigues(np.array([pitch, 0, 0]))[0]
        pose[:3, :3] = turn @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    c2w[:, :3, 3] = places
    focal = 0.85 * size[0] * lens
    return CameraPath(c2w, np.tile([focal, focal, size[0] / 2, size[1] / 2], (len(places), 1)), size)


def film(blockout: Blockout, path: CameraPath) -> np.ndarray:
    """(F, H, W, 3) uint8, four rays a pixel."""
    rays, (width, height) = RayScene(blockout), path.image_size
    fine = path.fitted_to((2 * width, 2 * height))
    clip = np.empty((len(path), height, width, 3), np.uint8)
    for sample in range(len(path)):
        eye = fine.c2w[sample, :3, 3]
        directions = ray_directions(
            fine.c2w[sample], fine.intrinsics[sample], 2 * width, np.arange(2 * height)
        )
        directions = directions.reshape(-1, 3)
        distance, objects = rays.first_hits(eye, directions, sample)
        is_sky = objects < 0
        points = np.where(is_sky, 0, distance).astype(np.float32)[:, None] * directions + eye.astype(
            np.float32
        )
        for index, motion in zip(blockout.moving, blockout.motion, strict=True):
            points[objects == index] -= motion[sample, :3, 3].astype(np.float32)
        picture = np.where(is_sky, np.float32(0.8), paint(points)).reshape(height, 2, width, 2).mean((1, 3))
        clip[sample] = (picture * 255 + 0.5)[..., None].astype(np.uint8)
    return clip


def paint(points: np.ndarray) -> np.ndarray:
    """(N,) 0..1 for (N, 3) world points: cells of three sizes with sharp edges."""
    picture = np.full(len(points), 0.15, np.float32)
    for size, weight in ((0.9, 0.3), (0.35, 0.3), (0.13, 0.2)):
        cell = np.floor(points * np.float32(1 / size) + np.float32(0.137)).astype(np.int32) & 63
        picture += weight * _CELLS[cell @ np.array([4096, 64, 1], np.int32)]
    return picture


_CELLS = np.random.default_rng(1).random(64**3, np.float32)


def degraded(clip: np.ndarray) -> np.ndarray:
    """Blurred, noisy and flickering."""
    rng = np.random.default_rng(4)
    spoiled = np.empty_like(clip)
    for index, frame in enumerate(clip):
        soft = cv2.GaussianBlur(frame.astype(np.float32), None, 1.2) * rng.uniform(0.94, 1.06)
        spoiled[index] = (soft + rng.normal(0, 5, soft.shape[:2])[..., None]).clip(0, 255)
    return spoiled
