# SPDX-License-Identifier: GPL-3.0-or-later
"""SANA-WM makes a shot: prompts, first frame, stage 1, refiner, decoder."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..conditioning.camera import camera_tokens, chunk_plucker
from ..models.refiner import RefinerRun
from ..models.stage1 import BlockConditioning, CarryPlan, Conditioning, Stage1Transformer
from ..models.vae import CausalDecoder
from ..models.vae.ltx2 import encode_first_frame
from ..overlap import Overlap
from ..protocol.memory_plan import MemoryPlan
from ..sampling import chunk_flow_euler, self_forcing
from ..sampling.blockout_guidance import BlockoutGuidance
from ..sampling.refine import SIGMAS, refine
from .released_models import ReleasedModels
from .released_preview import PreviewLatents
from .released_prompts import Encoded
from .schedule import chunks_of, noise_levels
from .shooting import Shooting

# The refiner's noise is the same for every seed of stage 1, and no part of that.
_REFINER_SEED = 42 << 32
Chunks = Iterator[tuple[slice, Tensor]]


class ReleasedFilm:
    """One making of one shot.

    Args:
        models: whose parts are loaded when their turn comes.
        plan: whether the parts are in memory together, and work at the same time, or one after another.
    """

    def __init__(self, models: ReleasedModels, plan: MemoryPlan, shooting: Shooting) -> None:
        self._models, self._shooting = models, shooting
        self._preset, self._progress = shooting.shot.preset, shooting.progress
        self._chunks = chunks_of(self._preset, len(shooting.path))
        width, height = (side // 32 for side in self._preset.image_size)
        self._grid = self._chunks[-1].stop, height, width
        self._overlaps = plan.together and self._preset.variant == "streaming"

    def portions(self, overlap: Overlap) -> Iterator[np.ndarray]:
        """See Models.film."""
        for sentence in self._models.notes():
            self._progress.note(sentence)
        prompts = self._prompts()
        first = self._first_latent()
        latents = self._in_turn(overlap, self._sampled(prompts, first))
        if self._preset.refiner:
            latents = self._in_turn(overlap, self._refined(prompts, latents))
        return overlap.ahead(self._decoded(latents))

    def _in_turn(self, overlap: Overlap, chunks: Chunks) -> Chunks:
        """A streaming clip's stages work at the same time; else a stage ends before the next one is loaded."""
        if self._overlaps:
            return overlap.ahead(chunks)
        return iter(list(chunks))

    def _prompts(self) -> Encoded:
        self._progress.step("prompts", 0, 1)

        def on_layer(done: int, layers: int) -> None:
            self._progress.check()

        prompts = self._models.prompts.encoded(self._shooting.shot, on_layer)
        self._progress.step("prompts", 1, 1)
        return prompts

    def _first_latent(self) -> Tensor:
        self._progress.step("condition", 0, 1)
        with self._models.encoder() as vae:
            first = encode_first_frame(vae, self._shooting.first_frame)
        self._progress.step("condition", 1, 1)
        return first.to(self._models.dtype)

    def _sampled(self, prompts: Encoded, first: Tensor) -> Chunks:
        """Stage 1: latents of one chunk after the other, kept as soon as they are there."""
        finished = self._shooting.finished
        kept = [finished.load(chunk) for chunk in self._chunks]
        if all(latents is not None for latents in kept):
            yield from zip(self._chunks, kept, strict=True)
            return
        sample = self._streamed if self._preset.variant == "streaming" else self._at_once
        with self._models.stage1() as network, PreviewLatents(self._models, self._shooting) as preview:
            guidance = None
            if self._preset.blockout_guidance > 0:
                strength, end = self._preset.blockout_guidance, self._preset.blockout_guidance_end
                guidance = BlockoutGuidance(preview.of, strength, end)
            for chunk, latents in zip(self._chunks, sample(network, prompts, first, guidance), strict=True):
                finished.save(chunk, latents)
                yield chunk, latents

    def _streamed(
        self, network: Stage1Transformer, prompts: Encoded, first: Tensor, guidance: BlockoutGuidance | None
    ) -> Iterator[Tensor]:
        """The student: four steps for each chunk."""
        shape = first.shape[1], *self._grid[1:]
        return self_forcing.sample(
            _Student(network, prompts, self),
            self_forcing.chunk_noise(shape, self._shooting.shot.seed, first.dtype, first.device),
            first,
            noise_levels(self._preset),
            self._chunks,
            self._shooting.finished.load,
            lambda chunk, step: self._stepped("denoise", chunk, step, len(self._preset.step_list) - 1),
            guidance,
        )

    def _at_once(
        self, network: Stage1Transformer, prompts: Encoded, first: Tensor, guidance: BlockoutGuidance | None
    ) -> Iterator[Tensor]:
        """The teacher, and the bidirectional model, which is a teacher with a single chunk."""
        starts = tuple(chunk.start for chunk in self._chunks)
        texts = [prompts.positive] if prompts.negative is None else [prompts.negative, prompts.positive]
        looks = [
            self.conditioning(network, network.condition_blocks(*text), slice(0, self._grid[0]), starts)
            for text in texts
        ]

        def velocity(latents: Tensor, timesteps: Tensor, chunks: int) -> Tensor:
            # One after the other: a whole clip is enough work for a device, and twice the memory is not there.
            *negative, positive = (
                network.denoise(latents, timesteps, look.first_chunks(chunks)).float() for look in looks
            )
            if not negative:
                return positive
            return negative[0] + self._preset.guidance * (positive - negative[0])

        generator = torch.Generator().manual_seed(self._shooting.shot.seed)
        noise = torch.randn((1, first.shape[1], *self._grid), generator=generator).to(first)
        self._progress.step("denoise", 0, 1)
        return chunk_flow_euler.sample(
            velocity,
            noise,
            first,
            noise_levels(self._preset),
            self._chunks,
            on_step=lambda step, steps: self._progress.step("denoise", step, steps),
            guidance=guidance,
        )

    def conditioning(
        self,
        network: Stage1Transformer,
        blocks: list[BlockConditioning],
        latents: slice,
        starts: tuple[int, ...] = (0,),
    ) -> Conditioning:
        """Camera and prompt for some of the clip's latent frames, in chunks that begin at `starts` among them."""
        path, device = self._shooting.path, self._models.device
        return network.condition_frames(
            blocks,
            camera_tokens(path, self._grid, latents)[None].to(device),
            chunk_plucker(path, self._grid, latents)[None].to(device),
            (latents.stop - latents.start, *self._grid[1:]),
            starts,
            latents.start,
        )

    def _refined(self, prompts: Encoded, latents: Chunks) -> Chunks:
        """The refiner: chunk by chunk for the streaming clip, all frames at once for the others."""
        if self._preset.variant != "streaming":
            latents = iter([(slice(0, self._grid[0]), torch.cat([part for _, part in latents], dim=2))])
        finished = self._shooting.finished
        with self._models.refiner() as network:
            run = RefinerRun(network, prompts.refiner, self._grid[1:], self._preset.refiner_window)
            shape = network.config.in_channels, *self._grid[1:]
            noise = self_forcing.chunk_noise(shape, _REFINER_SEED, self._models.dtype, self._models.device)
            for chunk, refined in refine(
                run,
                latents,
                noise,
                lambda chunk: finished.load(chunk, "refined"),
                lambda chunk, step: self._stepped("refine", chunk, step, len(SIGMAS) - 1),
            ):
                finished.save(chunk, refined, "refined")
                yield chunk, refined

    def _decoded(self, latents: Chunks) -> Iterator[np.ndarray]:
        """Pixels from the first wanted frame on; behind the refiner the clip's frame 0, its sink, is not delivered."""
        first = self._preset.pose_offset + self._shooting.first
        with self._models.decoder() as decoder:
            if not isinstance(decoder, CausalDecoder):
                whole = torch.cat([part for _, part in latents], dim=2)
                for frames in decoder.decode(whole, first):
                    self._progress.check()
                    yield _to_pixels(frames)
                return
            carry, decoded = None, 0
            for _, part in latents:
                frames, carry = decoder.decode_next(part, carry)
                wanted = frames[:, :, max(first - decoded, 0) :]
                decoded += frames.shape[2]
                self._progress.check()
                if wanted.shape[2]:
                    yield _to_pixels(wanted)

    def _stepped(self, stage: str, chunk: slice, step: int, steps: int) -> None:
        """Steps of chunks count towards the stage, unless the stages work at the same time."""
        if self._overlaps:
            self._progress.check()
            return
        latents = self._grid[0]
        done = chunk.start * steps + (chunk.stop - chunk.start) * step
        self._progress.step(stage, done, latents * steps)


class _Student:
    """Stage 1 as `self_forcing.sample` wants it."""

    def __init__(self, network: Stage1Transformer, prompts: Encoded, film: ReleasedFilm) -> None:
        first, other = film._chunks[0], film._chunks[-1]
        cells = film._grid[1] * film._grid[2]
        self._network, self._film = network, film
        self._blocks = network.condition_blocks(*prompts.positive)
        self._carry = network.empty_carry(CarryPlan(first.stop, other.stop - other.start), 1, cells)
        self._chunk: slice | None = None

    def velocity(self, latents: Tensor, timesteps: Tensor, chunk: slice) -> Tensor:
        return self._network.denoise(latents, timesteps, self._look(chunk), self._carry)

    def remember(self, latents: Tensor, chunk: slice) -> None:
        clean = torch.zeros(1, 1, latents.shape[2], device=latents.device)
        self._network.denoise(latents, clean, self._look(chunk), self._carry, save=True)

    def _look(self, chunk: slice) -> Conditioning:
        if chunk != self._chunk:
            self._chunk = chunk
            self._conditioning = self._film.conditioning(self._network, self._blocks, chunk)
        return self._conditioning


def _to_pixels(frames: Tensor) -> np.ndarray:
    """Frames (1, 3, n, H, W), RGB 0..1 -> (n, H, W, 3) uint8 in main memory."""
    levels = (frames[0] * 255 + 0.5).clamp_(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 3, 0).contiguous().cpu().numpy()
