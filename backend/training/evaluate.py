# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures on held-out clips, at the network's raster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models.embedded import EmbeddedModel, RasterClip
from ..protocol.camera_path import CameraPath
from ..sampling.flow_euler import sample, sigma_schedule
from .clip_files import ClipSet, TrainingClip

HOLE_SHARE = 0.5
FEWEST_HOLE_PIXELS = 200
CURVE_CLIPS = 12


@dataclass(frozen=True)
class Score:
    """Peak signal-to-noise ratios in dB, frame 0 left out; holes is nan where there are next to none."""

    whole: float
    holes: float


@torch.no_grad()
def residual_of(
    model: EmbeddedModel, clip: RasterClip, path: CameraPath, seed: int = 0, steps: int = 1
) -> tuple[Tensor, Tensor]:
    """What the model adds to the base, (F, 3, h, w): after the filter, and as decoded before it."""
    inputs = model.condition(clip, path)
    noise = torch.randn(inputs.base_latents.shape, generator=torch.Generator().manual_seed(seed))
    latents = sample(
        lambda noisy, timesteps: model.velocity(noisy, timesteps, inputs),
        noise,
        inputs.base_latents[:, :, :1],
        sigma_schedule(steps),
    )
    decoded = model.codec.decode_difference(latents - inputs.base_latents)[0].transpose(0, 1)
    return model.residual(latents, inputs, inputs.latents), decoded


def in_holes(clip: RasterClip, residual: Tensor, strength: float = 1.0) -> Tensor:
    """The base with the residual added where the first frame shows nothing, (F, 3, h, w)."""
    return (clip.base + strength * (1 - clip.visible) * residual).clamp(0, 1)


def score(picture: Tensor, truth: Tensor, visible: Tensor) -> Score:
    """Compare (F, 3, h, w) with its truth; visible (F, 1, h, w)."""
    squares = (picture - truth)[1:].square().mean(1)
    holes = squares[(1 - visible[1:, 0]) > HOLE_SHARE]
    enough = len(holes) >= FEWEST_HOLE_PIXELS
    return Score(_psnr(squares), _psnr(holes) if enough else float("nan"))


def curve_figures(model: EmbeddedModel, clips: ClipSet) -> dict[str, float]:
    """Mean gains over the base on a few held-out clips, for the training curve."""
    chosen = np.linspace(0, len(clips) - 1, min(CURVE_CLIPS, len(clips))).round().astype(int)
    rows = []
    for index in chosen:
        clip = clips[int(index)]
        filtered, decoded = residual_of(model, clip.projection, clip.path)
        base, network, final = (
            score(in_holes(clip.projection, residual), clip.truth, clip.projection.visible)
            for residual in (torch.zeros_like(decoded), decoded, filtered)
        )
        gains = (network.holes - base.holes, final.holes - base.holes, final.whole - base.whole)
        rows.append((base.holes, *gains))
    names = ("base_holes", "network_holes_gain", "filter_holes_gain", "filter_whole_gain")
    return dict(zip(names, np.nanmean(rows, axis=0).round(3).tolist(), strict=True))


def identified(picture: Tensor, truths: Iterable[TrainingClip], own: str) -> bool:
    """Is the picture nearer to the truth of its own camera move than to those of the other moves?"""
    errors = {clip.move: float((picture - clip.truth).square().mean()) for clip in truths}
    return min(errors, key=lambda move: errors[move]) == own


def _psnr(squares: Tensor) -> float:
    return float(-10 * torch.log10(squares.mean().clamp(min=1e-10)))
