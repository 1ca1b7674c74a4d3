# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of a clip of 60 s: a few passes of each, scaled by their number, or the whole clip."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..models.refiner import RefinerRun
from ..models.stage1 import CarryPlan, Conditioning
from ..models.vae import CausalDecoder
from ..sampling.chunk_grid import CHUNK_FRAMES, chunk_grid
from ..sampling.refine import SIGMAS
from ..sampling.self_forcing import RELEASED_STEP_LIST
from . import random_models
from .cards import Card
from .clock import Clock
from .counts import BIDIRECTIONAL_STEPS, GUIDED
from .random_models import Models
from .roofline import stage_bound_s
from .rows import Row, guarded

STEPS, REFINER_STEPS = len(RELEASED_STEP_LIST) - 1, len(SIGMAS) - 1
# Seconds for a clip of 60 s elsewhere. SANA-WM's abstract says 34 s on an RTX 5090 in NVFP4, without the refiner;
# records of about 8 s for stage 1 and about 26 s for the decoder on that card add up to it, though no text says that it
# is their sum. On an H100 in bf16 all stages of the streaming release took 55 s with the refiner's window of 11, and
# stage 1 of the bidirectional one 83 % of 920 s.
PUBLISHED_S = {
    ("RTX 5090", "nvfp4"): {
        "Stage 1, streaming": 8.0,
        "Decoder": 26.0,
        "Stage 1 and decoder": 34.0,
    },
    ("H100 SXM", "bf16"): {"Stage 1, bidirectional": 764.0, "All stages": 55.0},
}
_WARM_CHUNKS = 3  # after which a chunk sees as much as it ever will
_SUMS = {
    "Stage 1 and decoder": ("Stage 1, streaming", "Decoder"),
    "All stages": ("Stage 1, streaming", "Refiner, streaming", "Decoder"),
}


class Measured(NamedTuple):
    """Seconds that were measured, seconds of the whole clip, and in words how the second comes of the first."""

    seconds: float
    clip_s: float
    how: str


def stage_rows(
    models: Models,
    precisions: tuple[str, ...],
    device: torch.device,
    clock: Clock,
    card: Card,
    bidirectional: bool,
) -> Iterator[Row]:
    """Each stage in each precision, measured on a few blocks and a few passes, and their sums.

    Args:
        bidirectional: whether the forward over the whole clip is measured too.
    """
    for precision in precisions:
        stages: dict[str, Callable[[], Measured]] = {
            "Stage 1, streaming": partial(_stage1, models, precision, device, clock),
            "Refiner, streaming": partial(_refiner, models, precision, device, clock),
            "Decoder": partial(_decoder, models, precision, device, clock),
        }
        if bidirectional:
            stages["Stage 1, bidirectional"] = partial(_bidirectional, models, precision, device, clock)
        yield from rows_of(stages, models, precision, clock, card)


def rows_of(
    stages: dict[str, Callable[[], Measured]],
    models: Models,
    precision: str,
    clock: Clock,
    card: Card,
) -> Iterator[Row]:
    """A row for each stage that gives seconds as measured, seconds of a clip, and how these came about; then sums."""
    clips: dict[str, float] = {}

    def measured(stage: str, measure: Callable[[], Measured]) -> Iterator[Row]:
        clock.forget_peak()
        seconds, clip_s, how = measure()
        clips[stage] = clip_s
        yield _row(
            stage,
            models,
            precision,
            card,
            clip_s,
            {"measured s": seconds, "memory GB": clock.memory_gb(), "how": how},
        )

    for stage, measure in stages.items():
        yield from guarded("stages", f"{stage}, {precision}", partial(measured, stage, measure))
    for name, parts in _SUMS.items():
        if all(part in clips for part in parts):
            clip_s = sum(clips[part] for part in parts)
            yield _row(name, models, precision, card, clip_s, {"how": "sum of the rows above"})


def _row(
    stage: str, models: Models, precision: str, card: Card, clip_s: float, values: dict[str, float | str]
) -> Row:
    values = {**values, "clip s": clip_s}
    if models.is_release:
        parts = _SUMS.get(stage, (stage,))
        values["bound s"] = sum(stage_bound_s(part, card, precision) for part in parts)
        values["published s"] = PUBLISHED_S.get((card.name, precision), {}).get(stage)
    name = f"{stage}, {precision}" if models.is_release else f"{stage}, {precision}, miniature"
    return Row("stages", name, values)


class StreamedStage1:
    """Stage 1 in front of a clip of noise, chunk by chunk.

    Args:
        models, precision, device: of the model.
    """

    def __init__(self, models: Models, precision: str, device: torch.device) -> None:
        self._config, self._cells, self._device = models.stage1, models.cells, device
        self._model = random_models.stage1(models.stage1, precision, device)
        self._carry = self._model.empty_carry(
            CarryPlan(CHUNK_FRAMES + 1, CHUNK_FRAMES), 1, math.prod(models.cells)
        )
        text = torch.randn(1, 1, models.texts[0], models.stage1.caption_channels, device=device)
        with torch.no_grad():
            mask = torch.ones(1, models.texts[0], device=device)
            self._blocks = self._model.condition_blocks(text, mask)
        self.start = 0

    def conditioning(self, frames: int) -> Conditioning:
        """Of the next frames; the camera stands, which changes no time."""
        height, width = self._cells
        lens = torch.tensor([0.9 * width, 0.9 * width, width / 2, height / 2])
        camera = torch.cat([torch.eye(4).flatten(), lens]).expand(1, frames, 20).to(self._device)
        rays = torch.randn(1, self._config.plucker_channels, frames, height, width, device=self._device)
        return self._model.condition_frames(
            self._blocks, camera, rays, (frames, height, width), first_frame=self.start
        )

    def pass_over(
        self, frames: int, remembered: bool, conditioning: Conditioning, carried: bool = True
    ) -> Tensor:
        """One forward; the last of a chunk writes the carry."""
        latents = torch.randn(1, self._config.in_channels, frames, *self._cells, device=self._device)
        timesteps = torch.full((1, 1, frames), 0.0 if remembered else 727.0, device=self._device)
        carry = self._carry if carried else None
        return self._model.denoise(latents, timesteps, conditioning, carry, remembered)

    @torch.no_grad()
    def warm(self) -> None:
        """The first chunks, of which only the carry is kept."""
        for index in range(_WARM_CHUNKS):
            frames = CHUNK_FRAMES + (index == 0)
            self.pass_over(frames, True, self.conditioning(frames))
            self.start += frames


def _stage1(models: Models, precision: str, device: torch.device, clock: Clock) -> Measured:
    stage1 = StreamedStage1(models, precision, device)
    stage1.warm()
    conditioning = stage1.conditioning(CHUNK_FRAMES)
    step_s = clock.seconds(lambda: stage1.pass_over(CHUNK_FRAMES, False, conditioning))
    clean_s = clock.seconds(lambda: stage1.pass_over(CHUNK_FRAMES, True, conditioning))
    chunk_s, blocks = STEPS * step_s + clean_s, models.stage1.num_layers
    chunks = len(chunk_grid(models.frames))
    how = (
        f"{STEPS} steps and a clean pass of a chunk through {blocks} of {models.stage1_blocks} blocks; "
        f"x {models.stage1_blocks / blocks:g} x {chunks} chunks"
    )
    return Measured(chunk_s, chunk_s * models.stage1_blocks / blocks * chunks, how)


def _bidirectional(models: Models, precision: str, device: torch.device, clock: Clock) -> Measured:
    stage1, blocks = StreamedStage1(models, precision, device), models.stage1.num_layers
    conditioning = stage1.conditioning(models.frames)
    seconds = clock.seconds(lambda: stage1.pass_over(models.frames, False, conditioning, carried=False))
    passes = BIDIRECTIONAL_STEPS * GUIDED
    how = (
        f"one forward of {models.frames} latent frames through {blocks} of {models.stage1_blocks} blocks; "
        f"x {models.stage1_blocks / blocks:g} x {passes} passes"
    )
    return Measured(seconds, seconds * models.stage1_blocks / blocks * passes, how)


class StreamedRefiner:
    """The refiner in front of a clip of noise, block by block."""

    def __init__(self, models: Models, precision: str, device: torch.device) -> None:
        self._config, self._cells, self._device = models.refiner, models.cells, device
        model = random_models.refiner(models.refiner, precision, device)
        text = torch.randn(1, models.texts[1], models.refiner.caption_channels, device=device)
        with torch.no_grad():
            self.run = RefinerRun(model, text, models.cells, models.window)
            self.run.begin(self._latents(1))
        self.start = 1

    def _latents(self, frames: int) -> Tensor:
        return torch.randn(1, self._config.in_channels, frames, *self._cells, device=self._device)

    def place(self, frames: int) -> None:
        self.run.place(slice(self.start, self.start + frames))

    def step(self, frames: int) -> Tensor:
        return self.run.velocity(self._latents(frames), SIGMAS[0])

    def remember(self, frames: int) -> None:
        self.run.remember(self._latents(frames))

    @torch.no_grad()
    def warm(self, window: int) -> None:
        """Blocks until the history is full."""
        for _ in range(-(-window // CHUNK_FRAMES)):
            self.place(CHUNK_FRAMES)
            self.remember(CHUNK_FRAMES)
            self.start += CHUNK_FRAMES
        self.place(CHUNK_FRAMES)


def _refiner(models: Models, precision: str, device: torch.device, clock: Clock) -> Measured:
    refiner = StreamedRefiner(models, precision, device)
    refiner.warm(models.window)
    step_s = clock.seconds(lambda: refiner.step(CHUNK_FRAMES))
    clean_s = clock.seconds(lambda: refiner.remember(CHUNK_FRAMES))
    block_s, layers = REFINER_STEPS * step_s + clean_s, models.refiner.num_layers
    chunks = len(chunk_grid(models.frames))
    how = (
        f"{REFINER_STEPS} steps and a clean pass of 3 latent frames through {layers} of {models.refiner_blocks} "
        f"layers, window {models.window}; x {models.refiner_blocks / layers:g} x {chunks} blocks"
    )
    return Measured(block_s, block_s * models.refiner_blocks / layers * chunks, how)


class StreamedDecoder:
    """The causal decoder in front of a clip of noise, latent by latent."""

    def __init__(self, models: Models, precision: str, device: torch.device) -> None:
        # The autoencoder is never quantised.
        plain = "fp32" if precision == "fp32" else "bf16"
        vae = random_models.causal_autoencoder(models.decoder, plain, device)
        self._decoder, self._carry, self._device = CausalDecoder(vae), None, device
        self._shape = 1, vae.config.latent_channels, 1, *models.cells

    def next(self) -> None:
        _, self._carry = self._decoder.decode_next(torch.randn(self._shape, device=self._device), self._carry)


def _decoder(models: Models, precision: str, device: torch.device, clock: Clock) -> Measured:
    decoder = StreamedDecoder(models, precision, device)
    decoder.next()  # the clip's first latent is one frame alone
    seconds = clock.seconds(decoder.next)
    return Measured(seconds, seconds * models.frames, f"one latent of 8 frames; x {models.frames} latents")
