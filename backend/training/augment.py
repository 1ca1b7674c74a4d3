# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to a training clip that keep projection and truth in agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Generator, Tensor

from ..conditioning.camera import relative_c2w
from ..models.embedded import RasterClip
from ..protocol.camera_path import CameraPath
from .clip_files import ClipSet, TrainingClip
from .config import RecipeConfig

MIRROR_SHARE = 0.5
GRADE_SHARE = 0.3


class AugmentedClips:
    """The clips of the training set as the loop asks for them, each time with other changes."""

    def __init__(self, config: RecipeConfig) -> None:
        self._clips = ClipSet(config, "train")

    def __len__(self) -> int:
        return len(self._clips)

    def batch(self, indices: Sequence[int], generator: Generator) -> list[TrainingClip]:
        return [augmented(self._clips[index], generator) for index in indices]

    def tensors(self, batch: list[TrainingClip]) -> dict[str, Tensor]:
        named = {}
        for number, clip in enumerate(batch):
            named[f"{number}.truth"] = clip.truth
            images = vars(clip.projection).items()
            named |= {f"{number}.{name}": image for name, image in images if isinstance(image, Tensor)}
            named[f"{number}.c2w"] = torch.from_numpy(np.ascontiguousarray(clip.path.c2w))
        return named


def augmented(clip: TrainingClip, generator: Generator) -> TrainingClip:
    """Mirrored in half of the cases, with another colour grade in a third."""
    mirror, grade = torch.rand(2, generator=generator).tolist()
    if mirror < MIRROR_SHARE:
        clip = mirrored(clip)
    return graded(clip, generator) if grade < GRADE_SHARE else clip


def mirrored(clip: TrainingClip) -> TrainingClip:
    """Left and right exchanged, in the pictures and in the camera's path."""
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    intrinsics = clip.path.intrinsics.copy()
    intrinsics[:, 2] = clip.path.image_size[0] - intrinsics[:, 2]
    path = CameraPath(flip @ relative_c2w(clip.path) @ flip, intrinsics, clip.path.image_size)
    seen = clip.projection
    flipped = RasterClip(
        *(images.flip(-1) for images in (seen.base, seen.guide, seen.visible, seen.inverse_depth, seen.sky))
    )
    return replace(clip, projection=flipped, truth=clip.truth.flip(-1), path=path)


def graded(clip: TrainingClip, generator: Generator) -> TrainingClip:
    """Another linear grade of the finished picture; the guide stays. Filling the holes commutes with it."""
    gain = 1 + 0.2 * torch.randn(3, generator=generator).clamp(-2, 2)
    mixing = torch.diag(gain) + 0.06 * torch.randn(3, 3, generator=generator)

    def grade(images: Tensor) -> Tensor:
        return torch.einsum("ij,fjhw->fihw", mixing, images - 0.45) + 0.45

    projection = replace(clip.projection, base=grade(clip.projection.base))
    return replace(clip, projection=projection, truth=grade(clip.truth))
