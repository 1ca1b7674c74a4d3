# SPDX-License-Identifier: GPL-3.0-or-later
"""The rendered clips of the embedded model's data as clips for stage 1: its codec's latents, and no prompt."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..models.embedded import camera_inputs, null_text, path_in_units
from ..models.vae import LinearCodec
from ..weights.embedded import FOLDER as CODEC_FOLDER
from .batch import Batch
from .clip_files import ClipFolder


class RenderedLatents:
    """See ClipSource.

    Args:
        folder: of clips, `*.safetensors`.
    """

    def __init__(self, folder: Path) -> None:
        self._clips = ClipFolder(folder)
        self._codec = LinearCodec.load(CODEC_FOLDER / "codec.safetensors")

    def __len__(self) -> int:
        return len(self._clips)

    def clip(self, index: int) -> Batch:
        clip = self._clips[index]
        # The unit of length is the one thing that is taken from the geometry.
        camera, plucker = camera_inputs(path_in_units(clip.path, clip.projection))
        latents = self._codec.encode(clip.truth.transpose(0, 1)[None])
        return Batch(latents, camera[None], plucker[None], *self.no_text())

    def no_text(self) -> tuple[Tensor, Tensor]:
        return null_text(1, self._codec.patch_mean.device)

    def pictures(self, latents: Tensor) -> Tensor:
        return self._codec.decode(latents[None])[0].transpose(0, 1).clamp(0, 1)
