# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded model makes a shot: it looks at a small projection, samples, and changes the projection's holes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..models.embedded import EmbeddedConditioning, EmbeddedModel, projection_size
from ..models.vae.linear_codec import PATCH
from ..overlap import Overlap
from ..progress import Progress
from ..protocol import Preset, ProtocolError, Shot, limits
from ..sampling import chunk_flow_euler, self_forcing
from ..sampling.blockout_guidance import BlockoutGuidance, Preview, seen_cells
from ..weights.embedded import file_hashes, load_embedded
from .embedded_film import EmbeddedFilm, EmbeddedStudent, Sampled
from .schedule import chunks_of, noise_levels, with_trained_steps
from .shooting import Shooting


@dataclass(frozen=True)
class EmbeddedModels:
    """See Models.

    Attributes:
        network: None where a preset uses the projection alone.
        trained_steps: the step list that the student was trained with, if its weights say so.
    """

    network: EmbeddedModel | None
    sha256: dict[str, str]
    device: str
    trained_steps: tuple[float, ...] | None = None

    @classmethod
    def load(cls, preset: Preset, device: str) -> EmbeddedModels:
        """Load what the preset needs onto a torch device.

        Raises:
            ProtocolError: files are missing or damaged.
        """
        if preset.network_blend == 0:
            return cls(None, {}, device)
        try:
            return cls(load_embedded(device, variant=preset.variant), file_hashes(preset.variant), device)
        except (OSError, RuntimeError, ValueError, KeyError, SafetensorError) as error:
            why = " ".join(str(error).split())
            raise ProtocolError(
                f"The embedded model's weights cannot be loaded ({why}); install the extension again."
            ) from error

    def as_trained(self, preset: Preset) -> tuple[Preset, list[str]]:
        preset, warnings = with_trained_steps(preset, self.trained_steps)
        network = self.network
        if network is not None and preset.variant not in network.config.trained_variants:
            trained = " and ".join(network.config.trained_variants)
            warnings.append(f"The weights were trained {trained}; {preset.variant} runs with them untrained.")
        levels = noise_levels(preset)[1:]
        if (
            network is not None
            and preset.blockout_guidance > 0
            and max(levels) < preset.blockout_guidance_end
        ):
            warnings.append(
                f"Blockout guidance does nothing: it ends at {preset.blockout_guidance_end:g}, but the first step "
                f"already leads to {max(levels):g}. Lower its end, or take more steps."
            )
        return preset, warnings

    def check(self, shot: Shot) -> None:
        if shot.blockout is None:
            raise ProtocolError("The embedded model needs the blockout's geometry; export the shot with it.")

    def costs(self, shot: Shot, frames: int) -> dict[str, float]:
        """The student's work interleaves, so that its one stage is the finished clip."""
        preset = shot.preset
        render = {"render": frames * math.prod(preset.image_size)}
        if self.network is None or preset.variant == "streaming":
            return render
        look = frames * math.prod(projection_size(self.network.config.raster_for(preset.image_size)))
        return {"condition": look, "denoise": 0.5 * preset.steps * look, **render}

    def film(self, shooting: Shooting, overlap: Overlap) -> Iterator[np.ndarray]:
        """The network looks at a small projection of the first frame along the path and says what to change in its
        holes; every full-size frame is projected and completed. All of that happens chunk by chunk and at the same
        time, so that whatever the length of the clip only a few chunks of large frames are in memory."""
        shot, path, progress = shooting.shot, shooting.path, shooting.progress
        looks = _Looks(len(path), progress, shot.preset.variant == "streaming" or self.network is None)
        film = EmbeddedFilm(
            self.network,
            shot.blockout,
            path,
            shooting.first_frame,
            chunks_of(shot.preset, len(path)),
            looks.looked,
        )
        if self.network is None:
            changes = film.unchanged()
        else:
            sampled = overlap.ahead(_sampled(shooting, self.network, film))
            changes = overlap.ahead(film.changes(sampled))
        return overlap.ahead(film.render(changes, shot.preset, shooting.first, progress.check))


def _sampled(shooting: Shooting, network: EmbeddedModel, film: EmbeddedFilm) -> Iterator[Sampled]:
    """Latents of one chunk after the other, kept as soon as they are there."""
    sample = _streamed if shooting.shot.preset.variant == "streaming" else _at_once
    for chunk, latents in zip(film.chunks, sample(shooting, network, film), strict=True):
        shooting.finished.save(chunk, latents)
        yield chunk, latents, film.seen(chunk)


def _streamed(shooting: Shooting, network: EmbeddedModel, film: EmbeddedFilm) -> Iterator[Tensor]:
    """The student: one chunk after the other, each with a look of its own."""
    shot, first = shooting.shot, film.see(film.chunks[:1]).base_latents[:, :, :1]
    channels, _, height, width = first[0].shape
    return self_forcing.sample(
        EmbeddedStudent(network, film),
        self_forcing.chunk_noise((channels, height, width), shot.seed, first.dtype, first.device),
        first,
        noise_levels(shot.preset),
        film.chunks,
        shooting.finished.load,
        lambda chunk, step: shooting.progress.check(),
        _guidance(shot.preset, lambda chunk: film.see([chunk])),
    )


def _at_once(shooting: Shooting, network: EmbeddedModel, film: EmbeddedFilm) -> Iterator[Tensor]:
    """The teacher, and the bidirectional model, which is a teacher with a single chunk."""
    preset, progress, seen = shooting.shot.preset, shooting.progress, film.see(film.chunks)
    kept = [shooting.finished.load(chunk) for chunk in film.chunks]
    if all(latents is not None for latents in kept):
        yield from kept
        return
    generator = torch.Generator().manual_seed(shooting.shot.seed)
    noise = torch.randn(seen.base_latents.shape, generator=generator).to(seen.base_latents.device)
    progress.step("denoise", 0, preset.steps)
    yield from chunk_flow_euler.sample(
        lambda latents, timesteps, _: network.velocity(latents, timesteps, seen),
        noise,
        seen.base_latents[:, :, :1],
        noise_levels(preset),
        film.chunks,
        on_step=lambda step, steps: progress.step("denoise", step, steps),
        guidance=_guidance(preset, lambda frames: seen),
    )


def _guidance(preset: Preset, look: Callable[[slice], EmbeddedConditioning]) -> BlockoutGuidance | None:
    """To the projection that a look at these latent frames, and maybe more, has shown already."""
    if preset.blockout_guidance == 0:
        return None

    def preview(frames: slice) -> Preview:
        seen = look(frames)
        first = seen.latents.start
        own = slice(frames.start - first, frames.stop - first)
        cells = seen_cells(seen.clip.visible, PATCH, begins=first == 0)
        return seen.base_latents[:, :, own], cells[:, :, own]

    return BlockoutGuidance(preview, preset.blockout_guidance, preset.blockout_guidance_end)


class _Looks:
    """Called for every frame that was looked at, said once a latent frame, where looking is a stage of its own."""

    def __init__(self, frames: int, progress: Progress, interleaved: bool) -> None:
        self._frames, self._progress, self._interleaved = frames, progress, interleaved
        self._looked = 0

    def looked(self) -> None:
        self._looked += 1
        if self._interleaved or self._looked % limits.TEMPORAL_STRIDE != 1:
            self._progress.check()
        else:
            self._progress.step("condition", self._looked, self._frames)
