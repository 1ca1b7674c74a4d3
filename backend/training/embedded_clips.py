# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded model's clips as clips for the recipes of stage 1: with their projection, and weighed by its holes."""

from __future__ import annotations

from torch import Tensor

from ..models.embedded import RasterClip
from ..models.vae.linear_codec import PATCH
from ..sampling.blockout_guidance import seen_cells
from .batch import Batch
from .rendered_latents import RenderedLatents
from .residual_flow import stacked

# What the first frame shows is composited over whatever the network says there; the share of a cell that it must show.
SEEN_WEIGHT, SEEN_SHARE = 0.05, 0.9


class EmbeddedClips(RenderedLatents):
    """See ClipSource, and RenderedLatents for the argument."""

    def clip(self, index: int) -> Batch:
        clip = self._clips[index]
        _, channels, camera, plucker = stacked(self._codec, [clip])
        latents = self._codec.encode(clip.truth.transpose(0, 1)[None])
        weights = hole_weights(clip.projection)
        return Batch(latents, camera, plucker, *self.no_text(), channels=channels, weights=weights)


def hole_weights(clip: RasterClip) -> Tensor:
    """(1, 1, T, h/8, w/8): large in cells with holes, small in the others; 1 in the mean behind frame 0."""
    weights = SEEN_WEIGHT + 1 - seen_cells(clip.visible, PATCH, begins=True, share=SEEN_SHARE).float()
    return weights / weights[:, :, 1:].mean()
