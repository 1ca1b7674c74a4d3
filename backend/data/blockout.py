# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips of generated scenes: textured, lit, with things that move, through random and named camera moves."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..projection.scene import RayScene
from ..protocol import FPS, CameraPath
from ..protocol.camera_move import CameraMove, list_camera_moves
from ..protocol.camera_recorded import rotations_from
from ..training.moves import IMAGE_SIZE, NoPathFound, is_free, random_path
from ..training.render import render_frame
from ..training.scenes import PATTERNS, TrainingScene, random_scene
from .clip import SourceClip

PRESETS = Path(__file__).parents[2] / "presets" / "camera_moves"
# Where the view is open, a move's subject is taken to be this far away, and never further than the second.
OPEN_DISTANCE_M, FARTHEST_TARGET_M = 5.0, 12.0
SHAKE_PERIOD_S = 1.2
NAMED_SHARE = 0.5
MOVING_SHARE = 0.6
LARGEST_MOVING_M = 3.5
# Things that move keep so far away from the camera.
ROOM_M = 2.0


@dataclass(frozen=True)
class BlockoutSettings:
    """What decides every picture of the set.

    Attributes:
        seed: the same seed gives the same clips.
        frames: of each clip, 8k + 1.
        size: (width, height) in pixels.
        depth: whether the clips have depth.
    """

    seed: int
    frames: int
    size: tuple[int, int]
    depth: bool

    def record(self) -> dict[str, Any]:
        """For the dataset's record, which has size and frames already."""
        return {name: value for name, value in asdict(self).items() if name in ("seed", "depth")}


def clip_name(index: int) -> str:
    return f"blockout-{index:06d}"


def make_clips(settings: BlockoutSettings, indices: Sequence[int], processes: int) -> Iterator[SourceClip]:
    """The clips of these indices, as they are finished; each has a scene of its own."""
    make = partial(make_clip, settings)
    if processes == 1:
        yield from map(make, indices)
        return
    # Fresh processes: copies of this one would hold on to its lock on the dataset.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(make, indices)


def make_clip(settings: BlockoutSettings, index: int) -> SourceClip:
    """One clip; the same settings and index give the same one on every machine of a kind."""
    for attempt in range(50):
        rng = np.random.default_rng((settings.seed, index, attempt))
        scene = random_scene(rng)
        try:
            move, path = _random_camera(rng, scene, settings.frames)
        except NoPathFound:
            continue
        moving = 0
        if rng.random() < MOVING_SHARE:
            scene, moving = _with_moving_objects(rng, scene, path)
        return _filmed(settings, index, scene, path, move, moving)
    raise RuntimeError(f"No scene with room for the camera in 50 attempts (clip {index}).")


def _filmed(
    settings: BlockoutSettings, index: int, scene: TrainingScene, path: CameraPath, move: str, moving: int
) -> SourceClip:
    rays, camera = RayScene(scene.blockout), path.fitted_to(settings.size)
    frames, depth = [], []
    for sample in range(len(path)):
        picture = render_frame(scene, rays, path, sample, settings.size)
        frames.append(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8))
        if settings.depth:
            hits = rays.cast(camera.c2w[sample], camera.intrinsics[sample], settings.size, sample)
            depth.append(hits.depth_m.astype(np.float16))
    origin = {"scene": index, "move": move, "moving_objects": moving}
    depth_m = np.stack(depth) if settings.depth else None
    return SourceClip(
        clip_name(index), np.stack(frames), camera, _caption(scene, move, moving), origin, depth_m
    )


def _random_camera(rng: np.random.Generator, scene: TrainingScene, frames: int) -> tuple[str, CameraPath]:
    """A path that hits nothing, and what it is called. Raises NoPathFound."""
    rays = RayScene(scene.blockout)
    path = random_path(rng, scene, rays, frames)
    if rng.random() >= NAMED_SHARE:
        return "a free camera move", path
    moves = list(list_camera_moves(PRESETS).values())
    for _ in range(12):
        move = moves[rng.integers(len(moves))]
        named = named_path(rng, move, path, rays)
        if is_free(named, rays):
            return move.name.lower(), named
    raise NoPathFound


def named_path(rng: np.random.Generator, move: CameraMove, begins: CameraPath, rays: RayScene) -> CameraPath:
    """A preset's move at a random strength, from the first pose and lens of a path, and as long as it."""
    start, count = begins.c2w[0], len(begins)
    distance_m, _ = rays.first_hits(start[:3, 3], start[None, :3, 2], 0)
    target_m = min(distance_m[0], FARTHEST_TARGET_M) if np.isfinite(distance_m[0]) else OPEN_DISTANCE_M
    steady = np.linspace(0, 1, count)
    eased = steady * steady * (3 - 2 * steady)
    blend = rng.uniform(0, 1)
    progress = rng.uniform(0.3, 1) * (blend * eased + (1 - blend) * steady)
    c2w = np.array([move.pose(start, amount, target_m) for amount in progress])
    shift, turn = _unsteady(rng, count), _unsteady(rng, count)
    c2w[:, :3, 3] += move.shake_m * shift
    half = np.radians(move.shake_deg) * turn / 2
    quaternions = np.column_stack([np.ones(count), half])
    c2w[:, :3, :3] @= rotations_from(quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True))
    intrinsics = np.tile(begins.intrinsics[0], (count, 1))
    intrinsics[:, :2] *= (1 + progress * (move.lens_factor - 1))[:, None]
    return CameraPath(c2w, intrinsics, IMAGE_SIZE)


def _unsteady(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 3) smooth noise within about -1..1 that begins at 0, with periods around SHAKE_PERIOD_S."""
    time = np.arange(count)[:, None, None] / FPS
    rate = 2 * np.pi / (SHAKE_PERIOD_S * rng.uniform(0.6, 1.8, (3, 4)))
    waves = np.sin(time * rate + rng.uniform(0, 2 * np.pi, (3, 4))).mean(-1)
    return waves - waves[0]


def _with_moving_objects(
    rng: np.random.Generator, scene: TrainingScene, path: CameraPath
) -> tuple[TrainingScene, int]:
    """Up to three small things slide over the ground and turn; they lose their pattern, which stays in the world."""
    blockout, count = scene.blockout, len(path)
    places = path.c2w[:, :2, 3]
    chosen, motion = [], []
    for index in rng.permutation(len(blockout.object_names)):
        corners = blockout.vertices[blockout.faces[blockout.face_object == index]].reshape(-1, 3)
        low, high = corners.min(0).astype(np.float64), corners.max(0).astype(np.float64)
        if (high - low).max() > LARGEST_MOVING_M:
            continue
        track = _ground_motion(rng, (low + high) / 2, count)
        centres = (track @ [*(low + high) / 2, 1])[:, :2]
        if np.linalg.norm(centres[:, None] - places[None], axis=-1).min() < ROOM_M + (high - low).max() / 2:
            continue
        chosen.append(index)
        motion.append(track)
        if len(chosen) == 3 or rng.random() < 0.4:
            break
    if not chosen:
        return scene, 0
    pattern = scene.look.pattern.copy()
    pattern[chosen] = PATTERNS.index("plain")
    moved = replace(blockout, moving=np.array(chosen), motion=np.array(motion))
    return replace(scene, blockout=moved, look=replace(scene.look, pattern=pattern)), len(chosen)


def _ground_motion(rng: np.random.Generator, centre: np.ndarray, count: int) -> np.ndarray:
    """(count, 4, 4) from the place at sample 0: a straight way over the ground, and a turn about the own axis."""
    heading, way_m = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 4)
    turn = rng.normal(0, np.radians(50)) if rng.random() < 0.5 else 0.0
    progress = np.linspace(0, 1, count) ** rng.uniform(0.7, 1.5)
    cos, sin = np.cos(turn * progress), np.sin(turn * progress)
    motion = np.tile(np.eye(4), (count, 1, 1))
    motion[:, 0, 0] = motion[:, 1, 1] = cos
    motion[:, 1, 0], motion[:, 0, 1] = sin, -sin
    shift = way_m * progress[:, None] * [math.cos(heading), math.sin(heading), 0]
    motion[:, :3, 3] = centre + shift - motion[:, :3, :3] @ centre
    return motion


def _caption(scene: TrainingScene, move: str, moving: int) -> str:
    look = scene.look
    if look.viewport:
        light = "in the plain shading of a 3D viewport"
    else:
        height = "low" if look.sun_direction[2] < math.sin(math.radians(30)) else "high"
        light = f"under a {height} sun" + (" in haze" if look.fog_per_m else "")
    things = f"{len(scene.blockout.object_names)} simple solids"
    motion = f" {('One', 'Two', 'Three')[moving - 1]} of them moving." if moving else ""
    return f"A computer-generated scene of {things} {light}.{motion} Camera: {move}."
