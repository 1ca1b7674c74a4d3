# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips for the embedded model: projection and truth at the network's raster, and of some frames at the filter's.

Rendered and projected in one go, two files per scene: `coarse`, whole clips at the raster, and `fine`, a few of their
frames at twice that. Some first frames are graded or painted over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Generator, Tensor

from ..models.embedded import RasterClip, RasterClipBuilder, projection_size
from ..projection import Projection
from ..projection.fill import Sun
from ..projection.scene import RayScene
from ..protocol.camera_path import CameraPath
from .augment import GRADE_SHARE, MIRROR_SHARE, graded, mirrored
from .clip_files import ClipFolder, TrainingClip, save_clips
from .config import RecipeConfig
from .first_frames import Grade, painted
from .pool import in_processes
from .render import render_frame
from .scene_files import scene_of
from .scenes import TrainingScene

GRADED_SHARE, PAINTED_SHARE = 0.3, 0.2
_FIRST_FRAME_SEED = 7_000_000


@dataclass(frozen=True, eq=False)
class DetailClip:
    """One clip.

    Attributes:
        coarse: all frames at the network's raster.
        fine: some of them at `projection_size`, where the pixel filter works.
        frames: which, (D,) int, never the first.
    """

    coarse: TrainingClip
    fine: TrainingClip
    frames: Tensor


class DetailClips:
    """The clips of one part, "train" or "heldout", in a fixed order; as the loop asks for them, augmented."""

    def __init__(self, config: RecipeConfig, part: str) -> None:
        folder = Path(config.folder) / part
        self._coarse, self._fine = ClipFolder(folder / "coarse"), ClipFolder(folder / "fine")
        self._frames: list[Tensor] = []
        for path in sorted((folder / "fine").glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                about = file.metadata()
            frames = torch.tensor([int(number) for number in about["frames"].split(",")])
            self._frames += [frames] * len(about["moves"].split(","))

    def __len__(self) -> int:
        return len(self._fine)

    def __getitem__(self, index: int) -> DetailClip:
        return _in_one_unit(DetailClip(self._coarse[index], self._fine[index], self._frames[index]))

    def batch(self, indices: Sequence[int], generator: Generator) -> list[DetailClip]:
        return [with_one_frame(augmented(self[index], generator), generator) for index in indices]

    def tensors(self, batch: list[DetailClip]) -> dict[str, Tensor]:
        return {
            f"{number}.{size}.{name}": images
            for number, clip in enumerate(batch)
            for size, part in (("coarse", clip.coarse), ("fine", clip.fine))
            for name, images in (("base", part.projection.base), ("truth", part.truth))
        }


def augmented(clip: DetailClip, generator: Generator) -> DetailClip:
    """Mirrored in half of the cases, with another colour grade in a third; both sizes alike."""
    mirror, grade = torch.rand(2, generator=generator).tolist()
    coarse, fine = clip.coarse, clip.fine
    if mirror < MIRROR_SHARE:
        coarse, fine = mirrored(coarse), mirrored(fine)
    if grade < GRADE_SHARE:
        seed = int(torch.randint(2**40, (), generator=generator))
        coarse, fine = (graded(part, Generator().manual_seed(seed)) for part in (coarse, fine))
    return _in_one_unit(DetailClip(coarse, fine, clip.frames))


def with_one_frame(clip: DetailClip, generator: Generator) -> DetailClip:
    """With one of its fine frames, drawn: the filter costs as much as the network does."""
    drawn = int(torch.randint(len(clip.frames), (), generator=generator))
    chosen = slice(drawn, drawn + 1)
    fine = replace(clip.fine, projection=clip.fine.projection.part(chosen), truth=clip.fine.truth[chosen])
    return DetailClip(clip.coarse, fine, clip.frames[chosen])


def make_missing(config: RecipeConfig) -> Iterator[str]:
    """Make every scene that is not yet on disk, held-out scenes first; yields progress lines."""
    parts = (
        ("heldout", config.heldout_scenes, config.heldout_raster),
        ("train", config.scenes, config.raster),
    )
    for part, count, raster in parts:
        folder = Path(config.folder) / part
        for size in ("coarse", "fine"):
            (folder / size).mkdir(parents=True, exist_ok=True)
        # The coarse file is written last.
        missing = [n for n in range(count) if not (folder / "coarse" / f"{n:05d}.safetensors").exists()]
        for done in in_processes(_make, [(config, part, index, raster) for index in missing]):
            yield f"{part} scene {count - len(missing) + done} of {count}"


def _make(config: RecipeConfig, part: str, index: int, raster: tuple[int, int]) -> None:
    scene, rays, paths = scene_of(config, part, index)
    rng = np.random.default_rng((config.seed, _FIRST_FRAME_SEED, part == "train", index))
    numbers = 1 + np.sort(rng.choice(config.frames - 1, config.filter_frames, replace=False))
    coarse, fine = [], []
    sun: Sun = "search"
    for move, path in paths.items():
        graded_share, painted_share = (GRADED_SHARE, PAINTED_SHARE) if part == "train" else (0, 0)
        grade = Grade(rng, rng.uniform(0.4, 1) if rng.random() < graded_share else 0.0)
        large = projection_size(raster)
        first = grade(render_frame(scene, rays, path, 0, large))
        if rng.random() < painted_share:
            first = painted(first, rng)
        # What is found in a scene's first clip does for the others.
        projection = Projection(scene.blockout, path, first, large, sun)
        sun = projection.sun
        whole, some = seen_twice(projection, raster, numbers, config.frames)
        truths = (
            _truth(scene, rays, path, grade, size, shown)
            for size, shown in ((raster, range(config.frames)), (large, numbers))
        )
        coarse.append(TrainingClip(whole, next(truths), path, move))
        fine.append(TrainingClip(some, next(truths), path, move))
    name, folder = f"{index:05d}.safetensors", Path(config.folder) / part
    save_clips(fine, folder / "fine" / name, {"frames": ",".join(map(str, numbers))})
    save_clips(coarse, folder / "coarse" / name)


def seen_twice(
    projection: Projection, raster: tuple[int, int], frames: Sequence[int], count: int
) -> tuple[RasterClip, RasterClip]:
    """A projection of `projection_size`: all `count` frames averaged to the raster, and some as they are."""
    whole, some = RasterClipBuilder(raster), RasterClipBuilder(projection_size(raster))
    for number in range(count):
        frame = projection.frame(number)
        for builder in (whole, some) if number in frames else (whole,):
            builder.add(frame.base, frame.guide, frame.visible, frame.inverse_depth, frame.is_sky)
    clip = whole.build()
    return clip, replace(some.build(), unit_m=clip.unit_m)


def _truth(
    scene: TrainingScene,
    rays: RayScene,
    path: CameraPath,
    grade: Grade,
    size: tuple[int, int],
    numbers: Sequence[int],
) -> Tensor:
    pictures = [grade(render_frame(scene, rays, path, int(number), size)) for number in numbers]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _in_one_unit(clip: DetailClip) -> DetailClip:
    """The length unit is that of the whole clip."""
    seen = replace(clip.fine.projection, unit_m=clip.coarse.projection.unit_m)
    return replace(clip, fine=replace(clip.fine, projection=seen))
