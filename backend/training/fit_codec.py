# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe: the linear codec, fitted in closed form to the training clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..models.vae import LinearCodec
from ..models.vae.linear_codec import CHANNELS, KEPT_PER_FRAME, PATCH_VALUES, STEP, to_patches
from .clip_files import ClipFolder, TrainingClip
from .config import RecipeConfig

CLIPS_USED = 160


def fit_codec(config: RecipeConfig) -> LinearCodec:
    """Fit to the first clips of the training set, mirrored too, and write `codec.safetensors`."""
    clips = ClipFolder(Path(config.folder) / "train" / "coarse")
    fit = CodecFit()
    for add in (fit.add_patches, fit.add_steps):
        for index in range(min(CLIPS_USED, len(clips))):
            video = _video(clips[index])
            add(torch.cat([video, video.flip(-1)]))
    codec = fit.solve()
    tensors = {name: tensor.contiguous() for name, tensor in codec.state_dict().items()}
    save_file(tensors, Path(config.folder) / "codec.safetensors")
    return codec


def codec_psnr(config: RecipeConfig, codec: LinearCodec) -> float:
    """Round trip over the held-out clips, in dB, mean over clips."""
    clips = ClipFolder(Path(config.folder) / "heldout" / "coarse")
    figures = []
    for index in range(len(clips)):
        video = _video(clips[index])
        error = (codec.decode(codec.encode(video)).clamp(0, 1) - video)[:, :, 1:].square().mean()
        figures.append(float(-10 * torch.log10(error)))
    return float(np.mean(figures))


def _video(clip: TrainingClip) -> Tensor:
    """(1, 3, F, H, W)."""
    return clip.truth.transpose(0, 1)[None]


class CodecFit:
    """Fits a LinearCodec to clips in two passes over the same data: `add_patches`, then `add_steps`."""

    def __init__(self) -> None:
        self._patches = _Moments(PATCH_VALUES)
        self._steps = _Moments(STEP * KEPT_PER_FRAME)
        self._codec = LinearCodec().double()

    def add_patches(self, frames: Tensor) -> None:
        """First pass. Frames (B, 3, 8k + 1, H, W), RGB 0..1."""
        self._patches.add(to_patches(frames.double()).flatten(0, -2))

    def add_steps(self, frames: Tensor) -> None:
        """Second pass, after all patches."""
        if not self._codec.spatial_basis.any():
            self._solve_space()
        patches = to_patches(frames.double())[:, 1:] - self._codec.patch_mean
        coefficients = patches @ self._codec.spatial_basis[:KEPT_PER_FRAME].T
        batch, length, rows, columns, _ = coefficients.shape
        coefficients = coefficients.reshape(batch, length // STEP, STEP, rows, columns, KEPT_PER_FRAME)
        self._steps.add(coefficients.permute(0, 1, 3, 4, 2, 5).flatten(-2).flatten(0, -2))

    def solve(self) -> LinearCodec:
        """The codec, float32."""
        spread, basis = _principal_axes(self._steps.second_moment(about_zero=True))
        self._codec.temporal_basis.copy_(basis)
        self._codec.motion_scale.copy_(_scale(spread))
        return self._codec.float().eval()

    def _solve_space(self) -> None:
        self._codec.patch_mean.copy_(self._patches.mean())
        spread, basis = _principal_axes(self._patches.second_moment(about_zero=False))
        self._codec.spatial_basis.copy_(basis)
        self._codec.still_scale.copy_(_scale(spread))


class _Moments:
    def __init__(self, values: int) -> None:
        self.count = 0
        self.total = torch.zeros(values, dtype=torch.float64)
        self.products = torch.zeros(values, values, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        self.count += len(rows)
        self.total += rows.sum(0)
        self.products += rows.T @ rows

    def mean(self) -> Tensor:
        return self.total / self.count

    def second_moment(self, about_zero: bool) -> Tensor:
        mean = torch.zeros_like(self.total) if about_zero else self.mean()
        return self.products / self.count - torch.outer(mean, mean)


def _principal_axes(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviations (128,) and axes (128, values) of the 128 strongest directions."""
    variance, axes = torch.linalg.eigh(covariance)
    strongest = variance.flip(0)[:CHANNELS].clamp(min=1e-12)
    return strongest.sqrt(), axes.flip(1)[:, :CHANNELS].T


def _scale(spread: Tensor) -> Tensor:
    """1 / sqrt(spread), times a constant that gives the latents a mean square of one.

    Dividing by the full spread would weigh noise-like channels as much as the picture; not dividing at all
    would let the mean colour drown the rest.
    """
    return spread.rsqrt() / spread.mean().sqrt()
