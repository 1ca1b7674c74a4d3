# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to a training clip that keep projection and truth in agreement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Generator, Tensor

from ..conditioning.camera import relative_c2w
from ..models.embedded import RasterClip
from ..protocol.camera_path import CameraPath
from .clip_files import TrainingClip

MIRROR_SHARE = 0.5
GRADE_SHARE = 0.3


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
