# SPDX-License-Identifier: GPL-3.0-or-later
"""Second half of the data: the projection of every clip, averaged down to the raster, beside its truth.

One safetensors file per scene; a single clip is read without touching the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..models.embedded import RasterClip, RasterClipBuilder
from ..projection import project
from ..protocol.blockout import Blockout
from ..protocol.camera_path import CameraPath
from .config import RecipeConfig
from .moves import IMAGE_SIZE
from .scene_files import SceneFile

_BYTES = ("base", "guide", "visible", "sky")


@dataclass(frozen=True, eq=False)
class TrainingClip:
    """One clip of the data, at the raster's size.

    Attributes:
        projection: what the network sees.
        truth: (F, 3, h, w) float32, sRGB 0..1, what it shall show.
        path: the camera.
        move: name of the camera move.
    """

    projection: RasterClip
    truth: Tensor
    path: CameraPath
    move: str


def project_missing(config: RecipeConfig) -> Iterator[str]:
    """Project every rendered clip that is not yet on disk; yields progress lines."""
    for part in ("heldout", "train"):
        scenes = sorted((Path(config.folder) / part / "scenes").glob("*.npz"))
        folder = Path(config.folder) / part / "clips"
        folder.mkdir(parents=True, exist_ok=True)
        for done, path in enumerate(scenes, start=1):
            target = folder / f"{path.stem}.safetensors"
            if not target.exists():
                save_clips(_projected(SceneFile.load(path)), target)
                yield f"{part} projection {done} of {len(scenes)}"


def raster_projection(
    blockout: Blockout, path: CameraPath, first_frame: Tensor, raster: tuple[int, int]
) -> RasterClip:
    """Project at the first frame's size, (H, W, 3) float32 0..1, and average down to the raster."""
    height, width = first_frame.shape[:2]
    builder = RasterClipBuilder(raster)
    for frame in project(blockout, path, first_frame.numpy(), (width, height)):
        builder.add(frame.base, frame.guide, frame.visible, frame.inverse_depth, frame.is_sky)
    return builder.build()


class ClipFolder:
    """The clips of one folder of files, in a fixed order."""

    def __init__(self, folder: Path) -> None:
        self._entries: list[tuple[Path, int, str]] = []
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as shard:
                moves = shard.metadata()["moves"].split(",")
            self._entries += [(path, index, move) for index, move in enumerate(moves)]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> TrainingClip:
        path, row, move = self._entries[index]
        with safe_open(path, "pt") as shard:
            read = {name: shard.get_slice(name)[row] for name in shard.keys()}
        images = {name: read[name].float() / 255 for name in (*_BYTES, "truth")}
        truth = images.pop("truth")
        return TrainingClip(
            RasterClip(**images, inverse_depth=read["inverse_depth"].float()),
            truth,
            CameraPath(read["c2w"].numpy(), read["intrinsics"].numpy(), IMAGE_SIZE),
            move,
        )


class ClipSet(ClipFolder):
    """The clips of one part ("train" or "heldout") of a run's data."""

    def __init__(self, config: RecipeConfig, part: str) -> None:
        super().__init__(Path(config.folder) / part / "clips")


def save_clips(clips: Sequence[TrainingClip], target: Path, about: Mapping[str, str] | None = None) -> None:
    """Write clips of one size into a file that ClipFolder reads, atomically; `about` goes into its header."""
    seen = [clip.projection for clip in clips]
    tensors = {name: _as_bytes(torch.stack([getattr(clip, name) for clip in seen])) for name in _BYTES}
    tensors["inverse_depth"] = torch.stack([clip.inverse_depth for clip in seen]).half()
    tensors["truth"] = _as_bytes(torch.stack([clip.truth for clip in clips]))
    tensors["c2w"] = torch.stack([torch.from_numpy(clip.path.c2w) for clip in clips])
    tensors["intrinsics"] = torch.stack([torch.from_numpy(clip.path.intrinsics) for clip in clips])
    partial = target.with_suffix(".partial")
    save_file(tensors, partial, metadata={"moves": ",".join(clip.move for clip in clips), **(about or {})})
    partial.replace(target)


def _projected(scene: SceneFile) -> list[TrainingClip]:
    height, width = scene.truth.shape[2:4]
    parts = zip(scene.paths, scene.first_frames, scene.truth, scene.moves, strict=True)
    return [
        TrainingClip(
            raster_projection(scene.blockout, path, torch.from_numpy(first).float() / 255, (width, height)),
            torch.from_numpy(truth).permute(0, 3, 1, 2).float() / 255,
            path,
            move,
        )
        for path, first, truth, move in parts
    ]


def _as_bytes(images: Tensor) -> Tensor:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).contiguous()
