# SPDX-License-Identifier: GPL-3.0-or-later
"""A shot in front of the embedded model: looked at small, for the network, and rendered at full size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import cv2
import numpy as np
import torch
from torch import Tensor

from ..conditioning.camera import pixel_frames
from ..models.embedded import EmbeddedConditioning, EmbeddedModel, RasterClipBuilder, projection_size
from ..models.embedded.composite import composite
from ..models.stage1 import CarryPlan
from ..projection import ProjectedFrame, hatched, project
from ..protocol import Blockout, CameraPath, Preset
from ..protocol.limits import STREAMING_CHUNK

# A chunk, its latents, and the look that they were sampled with.
Sampled = tuple[slice, Tensor, EmbeddedConditioning]
# Pixel frames of a chunk, what the network wants to change in them at its raster, and the clip's unit of length.
Change = tuple[slice, Tensor | None, float]


class EmbeddedFilm:
    """Sees the shot chunk by chunk, in order, and remembers only the last look.

    Args:
        network: the model; None to render the projection as it is.
        blockout, path: the shot's, the path fitted to the clip's size.
        first_frame: (H, W, 3) float32 of the clip's size, sRGB 0..1.
        chunks: of the clip's latent frames, in order and without gaps.
        on_look: called after each frame that was looked at; whatever it raises ends the look.
    """

    def __init__(
        self,
        network: EmbeddedModel | None,
        blockout: Blockout,
        path: CameraPath,
        first_frame: np.ndarray,
        chunks: Sequence[slice],
        on_look: Callable[[], None],
    ) -> None:
        self._network, self._blockout, self._path, self._first_frame = network, blockout, path, first_frame
        self.chunks, self._on_look = chunks, on_look
        self._seen: EmbeddedConditioning | None = None
        if network is not None:
            raster = network.config.raster_for(path.image_size)
            small = projection_size(raster)
            scale = np.array(small) / path.image_size
            self._small_path = CameraPath(path.c2w, path.intrinsics * [*scale, *scale], small)
            reduced = cv2.resize(first_frame, small, interpolation=cv2.INTER_AREA)
            self._looks = project(blockout, self._small_path, reduced, small)
            self._builder = RasterClipBuilder(raster)

    @torch.no_grad()
    def see(self, chunks: Sequence[slice]) -> EmbeddedConditioning:
        """Conditioning of these chunks, the next ones or the last ones again."""
        latents = slice(chunks[0].start, chunks[-1].stop)
        if self._seen is None or self._seen.latents != latents:
            frames = pixel_frames(latents)
            for frame in islice(self._looks, frames.stop - frames.start):
                self._builder.add(frame.base, frame.guide, frame.visible, frame.inverse_depth, frame.is_sky)
                self._on_look()
            self._seen = self._network.condition(self._builder.build(), self._small_path, chunks, self._seen)
        return self._seen

    def seen(self, chunk: slice) -> EmbeddedConditioning:
        """The last look if the chunk is in it, else a look at the chunk."""
        last = self._seen
        if last is not None and last.latents.start <= chunk.start < last.latents.stop:
            return last
        return self.see([chunk])

    @torch.no_grad()
    def changes(self, sampled: Iterator[Sampled]) -> Iterator[Change]:
        """What the sampled latents change in the pixels."""
        for chunk, latents, seen in sampled:
            yield pixel_frames(chunk), self._network.difference(latents, seen, chunk), seen.clip.unit_m

    def unchanged(self) -> Iterator[Change]:
        """The clip without a network."""
        return iter([(pixel_frames(slice(0, self.chunks[-1].stop)), None, 1.0)])

    def render(
        self, changes: Iterator[Change], preset: Preset, first: int, check: Callable[[], None]
    ) -> Iterator[np.ndarray]:
        """Finished frames (N, H, W, 3) uint8 from frame `first` on, a portion at a time.

        Portions end at frames 24, 48, ..., in every variant, as the chunks of a causal clip do.

        Args:
            preset: says how much of the change to add, and whether to mark what the first frame never saw.
            first: a frame that a portion begins with.
            check: called after each frame; whatever it raises ends the clip.
        """
        last = len(self._path) - 1
        samples = range(first, last + 1)
        projected = project(self._blockout, self._path, self._first_frame, self._path.image_size, samples)
        portion = []
        for frames, difference, unit_m in changes:
            for index in range(max(first, frames.start), frames.stop):
                frame = next(projected)
                finished = frame.base
                if difference is not None:
                    own = difference[index - frames.start]
                    finished = completed(self._network, frame, own, unit_m, preset.network_blend)
                if preset.marks_unseen:
                    finished = hatched(finished, frame.visible)
                portion.append((finished * 255 + 0.5).clip(0, 255).astype(np.uint8))
                check()
                if index == last or (index and index % STREAMING_CHUNK == 0):
                    yield np.stack(portion)
                    portion.clear()


@torch.no_grad()
def completed(
    network: EmbeddedModel, frame: ProjectedFrame, difference: Tensor, unit_m: float, strength: float
) -> np.ndarray:
    """One finished frame, (H, W, 3) float32, sRGB 0..1.

    Args:
        frame: at the clip's size.
        difference: (3, h, w), what the network changes in it at its raster.
        unit_m: the clip's unit of length.
        strength: how much of the change to add, 0..1.
    """
    height, width = difference.shape[-2:]
    builder = RasterClipBuilder(projection_size((width, height)), unit_m)
    builder.add(frame.base, frame.guide, frame.visible, frame.inverse_depth, frame.is_sky)
    closer = builder.build().to(difference.device)
    residual = network.residual(difference[None], closer)[0]
    return composite(frame.base, residual, closer.sky[0], frame.visible, frame.is_sky, strength)


class EmbeddedStudent:
    """The network as `self_forcing.sample` wants it: a look at each chunk, and a carry between them."""

    def __init__(self, network: EmbeddedModel, film: EmbeddedFilm) -> None:
        first, other = film.chunks[0], film.chunks[-1]
        cells = film.see([first]).base_latents.shape[-2:].numel()
        plan = CarryPlan(first.stop, other.stop - other.start)
        self._network, self._film = network, film
        self._carry = network.stage1.empty_carry(plan, 1, cells)

    def velocity(self, latents: Tensor, timesteps: Tensor, chunk: slice) -> Tensor:
        return self._network.velocity(latents, timesteps, self._film.see([chunk]), self._carry)

    def remember(self, latents: Tensor, chunk: slice) -> None:
        clean = torch.zeros(1, 1, latents.shape[2], device=latents.device)
        self._network.clean_latents(latents, clean, self._film.see([chunk]), self._carry, save=True)
