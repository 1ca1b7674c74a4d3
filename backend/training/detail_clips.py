# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips of a long run: projection and truth at the network's raster, and of some frames at the filter's.

One compressed file per scene, rendered and projected in one go. Some first frames are graded or painted over.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..models.embedded import RasterClip, RasterClipBuilder
from ..projection import Projection
from ..projection.scene import RayScene
from ..protocol import atomic
from ..protocol.camera_path import CameraPath
from .detail_config import DETAIL, DetailConfig
from .first_frames import Grade, painted
from .moves import IMAGE_SIZE, NoPathFound, canonical_paths, random_path
from .render import render_frame
from .scenes import TrainingScene, random_scene

_HELDOUT_SEED = 900_000
GRADED_SHARE, PAINTED_SHARE = 0.3, 0.2
# The projection runs at this many times what it is averaged down to.
_FINER = 2
_IMAGES = ("base", "guide", "visible", "sky")


@dataclass(frozen=True, eq=False)
class DetailClip:
    """One clip.

    Attributes:
        seen, truth: what the network sees and (F, 3, h, w) float32 sRGB 0..1, what it shall show.
        frames: (D,) int, the frames that are there in detail too.
        seen_detail, truth_detail: the same of these, at DETAIL times the size.
        path: the camera.
        move: name of the camera move.
    """

    seen: RasterClip
    truth: Tensor
    frames: Tensor
    seen_detail: RasterClip
    truth_detail: Tensor
    path: CameraPath
    move: str


def scene_paths(config: DetailConfig, part: str, stages: int) -> list[Path]:
    """Files of a part's scenes, "heldout" or "train"; of training those of the first stages."""
    count = config.heldout_scenes if part == "heldout" else stages * config.scenes_per_stage
    return [Path(config.folder) / part / f"{index:05d}.npz" for index in range(count)]


def make_missing(config: DetailConfig, stages: int) -> Iterator[str]:
    """Make every scene that is not yet on disk, held-out scenes first; yields progress lines."""
    for part, raster in (("heldout", config.heldout_raster), ("train", config.raster)):
        paths = scene_paths(config, part, stages)
        for index, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                _make(config, part, index, raster, path)
                yield f"{part} scene {index + 1} of {len(paths)}"


def load_clips(path: Path) -> list[DetailClip]:
    """All clips of a scene."""
    with np.load(path, allow_pickle=False) as archive:
        return [_clip(archive, row) for row in range(len(archive["moves"]))]


def load_clip(path: Path, row: int) -> DetailClip:
    """One clip of a scene."""
    with np.load(path, allow_pickle=False) as archive:
        return _clip(archive, row)


def _make(config: DetailConfig, part: str, index: int, raster: tuple[int, int], target: Path) -> None:
    start = _HELDOUT_SEED if part == "heldout" else 0
    for attempt in range(50):
        rng = np.random.default_rng((config.seed, start + index, attempt))
        scene = random_scene(rng)
        rays = RayScene(scene.blockout)
        try:
            if part == "heldout":
                paths = canonical_paths(rng, scene, rays, config.frames)
            else:
                paths = {
                    f"random {n}": random_path(rng, scene, rays, config.frames)
                    for n in range(config.moves_per_scene)
                }
        except NoPathFound:
            continue
        plain = part == "heldout"
        clips = [
            _filmed(rng, scene, rays, path, raster, config.detail_frames, plain) for path in paths.values()
        ]
        # An entry for every clip's every part, so that one clip is read without unpacking the others.
        stored = {f"{row}.{name}": part for row, clip in enumerate(clips) for name, part in clip.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, moves=np.array(list(paths)), **stored)
        atomic.write_bytes(target, buffer.getvalue())
        return
    raise RuntimeError(f"No scene with room for the camera in 50 attempts (scene {index} of {part}).")


def _filmed(
    rng: np.random.Generator,
    scene: TrainingScene,
    rays: RayScene,
    path: CameraPath,
    raster: tuple[int, int],
    detail_frames: int,
    plain: bool,
) -> dict[str, np.ndarray]:
    detail = (DETAIL * raster[0], DETAIL * raster[1])
    finest = (_FINER * detail[0], _FINER * detail[1])
    frames = 1 + np.sort(rng.choice(len(path) - 1, detail_frames, replace=False))
    drawn, grade = rng.random(2), Grade(rng, rng.uniform(0.4, 1))
    if plain or drawn[0] >= GRADED_SHARE:
        grade = Grade(rng, 0.0)
    first = grade(render_frame(scene, rays, path, 0, finest))
    if not plain and drawn[1] < PAINTED_SHARE:
        first = painted(first, rng)
    truth = {"truth": (raster, range(len(path))), "truth_detail": (detail, frames)}
    stored = {
        name: np.stack([_shuffled(grade(render_frame(scene, rays, path, int(n), size))) for n in numbers])
        for name, (size, numbers) in truth.items()
    }
    seen = _seen(scene, path, _halved(first), raster, range(len(path)))
    closer = _seen(scene, path, first, detail, frames)
    for name, clip in (("", seen), ("_detail", closer)):
        for image in _IMAGES:
            stored[image + name] = _shuffled(getattr(clip, image).permute(0, 2, 3, 1).numpy())
        stored["inverse_depth" + name] = clip.inverse_depth[:, 0].numpy().astype(np.float16)
    return {
        **stored,
        "frames": frames,
        "unit_m": np.array(seen.unit_m),
        "c2w": path.c2w,
        "intrinsics": path.intrinsics,
    }


def _seen(
    scene: TrainingScene,
    path: CameraPath,
    first: np.ndarray,
    raster: tuple[int, int],
    numbers: np.ndarray | range,
) -> RasterClip:
    height, width = first.shape[:2]
    builder = RasterClipBuilder(raster)
    projection = Projection(scene.blockout, path, first, (width, height))
    for number in numbers:
        frame = projection.frame(int(number))
        builder.add(frame.base, frame.guide, frame.visible, frame.inverse_depth, frame.is_sky)
    return builder.build()


def _clip(archive: Mapping[str, np.ndarray], row: int) -> DetailClip:
    def stored(name: str) -> np.ndarray:
        return archive[f"{row}.{name}"]

    unit_m = float(stored("unit_m"))

    def seen(suffix: str) -> RasterClip:
        images = {name: _images(stored(name + suffix)) for name in _IMAGES}
        depth = torch.from_numpy(stored("inverse_depth" + suffix).astype(np.float32))[:, None]
        return RasterClip(**images, inverse_depth=depth, unit_m=unit_m)

    return DetailClip(
        seen(""),
        _images(stored("truth")),
        torch.from_numpy(stored("frames")),
        seen("_detail"),
        _images(stored("truth_detail")),
        CameraPath(stored("c2w"), stored("intrinsics"), IMAGE_SIZE),
        str(archive["moves"][row]),
    )


def _halved(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return picture.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3), dtype=np.float32)


def _shuffled(picture: np.ndarray) -> np.ndarray:
    """(..., W, C) 0..1 -> uint8, along the rows what changes: that compresses to half."""
    values = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return np.diff(values, axis=-2, prepend=np.uint8(0))


def _images(shuffled: np.ndarray) -> Tensor:
    """(F, H, W, C) of `_shuffled` -> (F, C, H, W) float32 0..1."""
    values = np.add.accumulate(shuffled, axis=-2, dtype=np.uint8)
    return torch.from_numpy(values).permute(0, 3, 1, 2).float() / 255
