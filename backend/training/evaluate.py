# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures on held-out clips."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.embedded import EmbeddedModel, RasterClip
from ..protocol.camera_path import CameraPath
from ..sampling.flow_euler import sample, sigma_schedule
from .clip_files import TrainingClip

HOLE_SHARE = 0.5
FEWEST_HOLE_PIXELS = 200


@dataclass(frozen=True)
class Score:
    """Peak signal-to-noise ratios in dB; holes is nan where there are next to none."""

    whole: float
    holes: float


@torch.no_grad()
def difference_of(
    model: EmbeddedModel, clip: RasterClip, path: CameraPath, seed: int = 0, steps: int = 1
) -> Tensor:
    """What the network changes in the base, (F, 3, h, w), at the raster and before the filter."""
    inputs = model.condition(clip, path)
    noise = torch.randn(inputs.base_latents.shape, generator=torch.Generator().manual_seed(seed))
    latents = sample(
        lambda noisy, timesteps: model.velocity(noisy, timesteps, inputs),
        noise,
        inputs.base_latents[:, :, :1],
        sigma_schedule(steps),
    )
    return model.difference(latents, inputs, inputs.latents)


def in_holes(clip: RasterClip, residual: Tensor, strength: float = 1.0) -> Tensor:
    """The base with the residual added where the first frame shows nothing, (F, 3, h, w)."""
    return (clip.base + strength * (1 - clip.visible) * residual).clamp(0, 1)


def score(picture: Tensor, truth: Tensor, visible: Tensor) -> Score:
    """Compare (F, 3, h, w) with its truth; visible (F, 1, h, w)."""
    squares = (picture - truth).square().mean(1)
    holes = squares[(1 - visible[:, 0]) > HOLE_SHARE]
    enough = len(holes) >= FEWEST_HOLE_PIXELS
    return Score(_psnr(squares), _psnr(holes) if enough else float("nan"))


def identified(picture: Tensor, truths: Iterable[TrainingClip], own: str) -> bool:
    """Is the picture nearer to the truth of its own camera move than to those of the other moves?"""
    errors = {clip.move: float((picture - clip.truth).square().mean()) for clip in truths}
    return min(errors, key=lambda move: errors[move]) == own


def _psnr(squares: Tensor) -> float:
    return float(-10 * torch.log10(squares.mean().clamp(min=1e-10)))
