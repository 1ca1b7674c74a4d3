# SPDX-License-Identifier: GPL-3.0-or-later
"""First half of the data: random scenes, moves through them, and the pictures to be reached.

One npz file per scene. It holds everything that does not depend on how the projection fills holes, so a
better fill needs no new rendering.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..models.embedded import projection_size
from ..projection.scene import RayScene
from ..protocol import atomic
from ..protocol.blockout import Blockout
from ..protocol.camera_path import CameraPath
from .config import RecipeConfig
from .moves import IMAGE_SIZE, NoPathFound, canonical_paths, random_path
from .render import render_frame
from .scenes import TrainingScene, random_scene

_HELDOUT_SEED = 900_000


@dataclass(frozen=True, eq=False)
class SceneFile:
    """Clips of one scene.

    Attributes:
        blockout: the scene's geometry.
        moves: a name for every clip.
        paths: one camera path for every clip.
        truth: (N, F, H, W, 3) uint8, the pictures to be reached, at the raster's size.
        first_frames: (N, 2H, 2W, 3) uint8, frame 0 at the size the projection runs at.
    """

    blockout: Blockout
    moves: list[str]
    paths: list[CameraPath]
    truth: np.ndarray
    first_frames: np.ndarray

    def save(self, path: Path) -> None:
        """Write atomically."""
        geometry = {f"blockout_{name}": getattr(self.blockout, name) for name in _BLOCKOUT_FIELDS}
        buffer = io.BytesIO()
        np.savez(
            buffer,
            moves=np.array(self.moves),
            c2w=np.stack([path.c2w for path in self.paths]),
            intrinsics=np.stack([path.intrinsics for path in self.paths]),
            truth=self.truth,
            first_frames=self.first_frames,
            **geometry,
        )
        atomic.write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> SceneFile:
        with np.load(path, allow_pickle=False) as archive:
            return cls(
                Blockout(**{name: archive[f"blockout_{name}"] for name in _BLOCKOUT_FIELDS}),
                archive["moves"].tolist(),
                [
                    CameraPath(c2w, intrinsics, IMAGE_SIZE)
                    for c2w, intrinsics in zip(archive["c2w"], archive["intrinsics"], strict=True)
                ],
                archive["truth"],
                archive["first_frames"],
            )


_BLOCKOUT_FIELDS = tuple(Blockout.__dataclass_fields__)


def render_missing(config: RecipeConfig) -> Iterator[str]:
    """Render every scene that is not yet on disk, held-out scenes first; yields progress lines."""
    for part, count, raster in (
        ("heldout", config.heldout_scenes, config.heldout_raster),
        ("train", config.scenes, config.raster),
    ):
        folder = Path(config.folder) / part / "scenes"
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            path = folder / f"{index:05d}.npz"
            if not path.exists():
                _filmed(*scene_of(config, part, index), raster).save(path)
                yield f"{part} scene {index + 1} of {count}"


def scene_of(
    config: RecipeConfig, part: str, index: int
) -> tuple[TrainingScene, RayScene, dict[str, CameraPath]]:
    """A scene of "train" or "heldout" as the seed makes it, and the moves through it by name."""
    start = _HELDOUT_SEED if part == "heldout" else 0
    for attempt in range(50):
        rng = np.random.default_rng((config.seed, start + index, attempt))
        scene = random_scene(rng)
        rays = RayScene(scene.blockout)
        try:
            if part == "heldout":
                return scene, rays, canonical_paths(rng, scene, rays, config.frames)
            moves = range(config.moves_per_scene)
            return scene, rays, {f"random {n}": random_path(rng, scene, rays, config.frames) for n in moves}
        except NoPathFound:
            continue
    raise RuntimeError(f"No scene with room for the camera in 50 attempts (scene {index} of {part}).")


def _filmed(
    scene: TrainingScene, rays: RayScene, paths: dict[str, CameraPath], raster: tuple[int, int]
) -> SceneFile:
    large = projection_size(raster)
    truth = [
        [_bytes(render_frame(scene, rays, path, sample, raster)) for sample in range(len(path))]
        for path in paths.values()
    ]
    first = [_bytes(render_frame(scene, rays, path, 0, large)) for path in paths.values()]
    return SceneFile(scene.blockout, list(paths), list(paths.values()), np.array(truth), np.array(first))


def _bytes(picture: np.ndarray) -> np.ndarray:
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
