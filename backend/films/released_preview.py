# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame, projected along the path, as latents of the released model: what blockout guidance draws to."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import torch

from ..projection import Projection
from ..protocol.limits import TEMPORAL_STRIDE
from ..sampling.blockout_guidance import Preview, seen_cells
from .released_models import ReleasedModels
from .shooting import Shooting

# Latents before those that are wanted are encoded too, because the encoder looks back.
_CONTEXT = 4
_AT_ONCE = 8


class PreviewLatents:
    """Encodes the projected preview, a few latents at a time; a context in which the encoder is loaded when asked."""

    def __init__(self, models: ReleasedModels, shooting: Shooting) -> None:
        self._models, self._shooting = models, shooting
        self._vae: torch.nn.Module | None = None
        self._projection: Projection | None = None
        self._known: dict[tuple[int, int], Preview] = {}

    def __enter__(self) -> PreviewLatents:
        self._stack = ExitStack()
        return self

    def __exit__(self, *_: object) -> None:
        self._vae = None
        self._stack.close()

    def of(self, latents: slice) -> Preview:
        """Of these latent frames of the clip; those that were asked for last are remembered."""
        key = latents.start, latents.stop
        if key not in self._known:
            parts = [
                self._encoded(slice(start, min(start + _AT_ONCE, latents.stop)))
                for start in range(latents.start, latents.stop, _AT_ONCE)
            ]
            self._known = {key: tuple(torch.cat(part, dim=2) for part in zip(*parts, strict=True))}
        return self._known[key]

    @torch.no_grad()
    def _encoded(self, latents: slice) -> Preview:
        """A stretch of frames as if a clip began with them; the latents of that beginning are dropped."""
        from ..models.vae.latent_units import normalized

        if self._vae is None:
            self._vae = self._stack.enter_context(self._models.encoder())
        size = self._shooting.path.image_size
        if self._projection is None:
            shot, first_frame = self._shooting.shot, self._shooting.first_frame
            self._projection = Projection(shot.blockout, self._shooting.path, first_frame, size)
        begin = max(latents.start - _CONTEXT, 0)
        samples = range(TEMPORAL_STRIDE * begin, TEMPORAL_STRIDE * (latents.stop - 1) + 1)
        base, visible = [], []
        for frame in map(self._projection.frame, samples):
            base.append(frame.base)
            visible.append(frame.visible)
        weight = self._vae.encoder.conv_in.conv.weight
        video = torch.from_numpy(np.stack(base)).permute(3, 0, 1, 2)[None].to(weight) * 2 - 1
        encoded = normalized(self._vae.encode(video).latent_dist.mode().float(), self._vae)
        shown = torch.from_numpy(np.stack(visible).astype(np.float32))[:, None].to(encoded.device)
        cells = seen_cells(shown, size[0] // encoded.shape[-1], begins=True)
        own = slice(latents.start - begin, latents.stop - begin)
        return encoded[:, :, own].to(self._models.dtype), cells[:, :, own]
