# SPDX-License-Identifier: GPL-3.0-or-later
"""The clips of a dataset of `python -m backend data` as clips for stage 1.

A clip's tensors are mapped when its turn comes, so a dataset may be larger than memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..conditioning.camera import camera_tokens, chunk_plucker
from ..data.codecs import NO_CODEC, load_codec
from ..data.shards import ShardReader, StoredClip
from ..models.embedded import null_text
from ..protocol import CameraPath
from ..protocol.limits import TEMPORAL_STRIDE
from .batch import Batch
from .prompts import ClipPrompts


@dataclass(frozen=True)
class DataRecord:
    """Which clips a run is made of; one that goes on must have the same.

    Attributes:
        clips: how many.
        names_sha256: of their names in their order.
        codec, codec_sha256, size, frames: of the dataset.
    """

    clips: int
    names_sha256: str
    codec: str
    codec_sha256: str
    size: tuple[int, int]
    frames: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))


class ShardClips:
    """See ClipSource.

    Args:
        reader: of the dataset.
        chosen: which of its clips.
        prompts: encoded captions; None where every caption is the one constant token of models without a text encoder.

    Raises:
        ValueError: its clips are no latents, or not those of the codec that it names.
    """

    def __init__(self, reader: ShardReader, chosen: Sequence[int], prompts: ClipPrompts | None) -> None:
        self._reader, self._chosen, self._prompts = reader, chosen, prompts
        info = reader.info
        if info.codec == NO_CODEC:
            raise ValueError(
                f"The dataset {reader.folder} keeps frames, and training reads latents; make it again with --codec "
                "linear, or --codec ltx2 for the released model."
            )
        self._codec = load_codec(info.codec) if info.codec == "linear" else None
        if self._codec is not None and self._codec.sha256 != info.codec_sha256:
            raise ValueError(
                f"The latents of {reader.folder} were made by another codec than the linear one of this version; make "
                "the dataset again."
            )
        names = "\n".join(reader.names[index] for index in chosen)
        self.record = DataRecord(
            len(chosen),
            hashlib.sha256(names.encode()).hexdigest(),
            info.codec,
            info.codec_sha256,
            info.size,
            info.frames_per_clip,
        )

    def __len__(self) -> int:
        return len(self._chosen)

    def clip(self, index: int) -> Batch:
        stored, info = self._reader[self._chosen[index]], self._reader.info
        latents = self._latents(stored)
        path = CameraPath(stored.c2w.numpy(), stored.intrinsics.numpy(), info.size)
        grid = tuple(latents.shape[2:])
        camera, plucker = camera_tokens(path, grid), chunk_plucker(path, grid)
        if self._prompts is None:
            text = self.no_text()
        else:
            text = self._prompts.states(stored.caption)
        return Batch(latents, camera[None], plucker[None], *text)

    def captions(self) -> list[str]:
        return [self._reader.caption(index) for index in self._chosen]

    def no_text(self) -> tuple[Tensor, Tensor]:
        return null_text(1, torch.device("cpu")) if self._prompts is None else self._prompts.nothing()

    def pictures(self, latents: Tensor) -> Tensor:
        """Decoded by the linear codec; of another one three channels in false colours."""
        if self._codec is None:
            return (latents[:3].transpose(0, 1).float() / 4 + 0.5).clamp(0, 1)
        return torch.from_numpy(self._codec.decode(latents)).permute(0, 3, 1, 2).float() / 255

    def _latents(self, stored: StoredClip) -> Tensor:
        """(1,C,T,h,w) fp32, after a look at their shape."""
        info = self._reader.info
        frames = (info.frames_per_clip - 1) // TEMPORAL_STRIDE + 1
        shape = None if stored.latents is None else tuple(stored.latents.shape)
        fits = shape is not None and len(shape) == 4 and shape[1] == frames
        if not fits or shape[2] * info.size[0] != shape[3] * info.size[1]:
            raise ValueError(
                f"The clip {stored.name} of {self._reader.folder} has latents of {shape}, which are not {frames} steps "
                f"of {info.size[0]} x {info.size[1]} pixels; python -m backend data validate names all such clips."
            )
        return stored.latents[None].float()
