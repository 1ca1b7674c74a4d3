# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe: the linear codec, fitted in closed form to the training clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..models.vae import LinearCodec
from ..models.vae.linear_codec import CodecFit
from .config import RecipeConfig
from .scene_files import SceneFile

SCENES_USED = 40


def fit_codec(config: RecipeConfig) -> LinearCodec:
    """Fit to the first scenes of the training set, mirrored too, and write `codec.safetensors`."""
    target = Path(config.folder) / "codec.safetensors"
    paths = sorted((Path(config.folder) / "train" / "scenes").glob("*.npz"))[:SCENES_USED]
    fit = CodecFit()
    for add in (fit.add_patches, fit.add_steps):
        for path in paths:
            clips = _as_video(SceneFile.load(path).truth)
            add(torch.cat([clips, clips.flip(-1)]))
    codec = fit.solve()
    save_file({name: tensor.contiguous() for name, tensor in codec.state_dict().items()}, target)
    return codec


def codec_psnr(config: RecipeConfig, codec: LinearCodec) -> float:
    """Round trip over the held-out clips, in dB, mean over clips."""
    figures = []
    for path in sorted((Path(config.folder) / "heldout" / "scenes").glob("*.npz")):
        for clip in _as_video(SceneFile.load(path).truth).split(1):
            error = (codec.decode(codec.encode(clip)).clamp(0, 1) - clip)[:, :, 1:].square().mean()
            figures.append(float(-10 * torch.log10(error)))
    return float(np.mean(figures))


def _as_video(truth: np.ndarray) -> Tensor:
    """(N, F, H, W, 3) uint8 -> (N, 3, F, H, W) float32 0..1."""
    return torch.from_numpy(truth).permute(0, 4, 1, 2, 3).float() / 255
