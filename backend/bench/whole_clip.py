# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole clip through all blocks of all stages, for `--whole`: nothing scaled, where the memory allows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ..protocol import Preset, ProtocolError
from ..protocol.main_memory import available_gb
from ..protocol.memory_plan import Budget, plan
from ..sampling.chunk_grid import CHUNK_FRAMES, chunk_grid
from .cards import Card
from .clock import Clock
from .random_models import Models
from .rows import Row
from .stages import REFINER_STEPS, STEPS, Measured, StreamedDecoder, StreamedRefiner, StreamedStage1, rows_of

_PRESETS = Path(__file__).parents[2] / "presets" / "quality"
_WHOLE_CLIP_FRAMES = 961


def whole_rows(
    models: Models, precisions: tuple[str, ...], device: torch.device, clock: Clock, card: Card
) -> Iterator[Row]:
    """Each stage whole, one after the other; a row with the reason where it does not fit."""
    models = models.whole()
    for precision in precisions:
        problem = _why_it_does_not_fit(precision, device) if device.type == "cuda" else ""
        if problem:
            yield Row("stages", f"Whole clip, {precision}", reason=problem)
            continue
        stages = {
            "Stage 1, streaming": partial(_stage1, models, precision, device, clock),
            "Refiner, streaming": partial(_refiner, models, precision, device, clock),
            "Decoder": partial(_decoder, models, precision, device, clock),
        }
        yield from rows_of(stages, models, precision, clock, card)


def _why_it_does_not_fit(precision: str, device: torch.device) -> str:
    """A sentence; empty if every stage fits on the card."""
    preset = replace(Preset.load(_PRESETS / "sana_wm_draft.json"), precision=precision)
    free_gb = torch.cuda.mem_get_info(device)[0] / 1e9
    try:
        layout = plan(preset, _WHOLE_CLIP_FRAMES, Budget(free_gb, available_gb()))
    except ProtocolError as error:
        return str(error)
    if layout.stage1_streamed or layout.refiner_streamed:
        return f"with {free_gb:.0f} GB free the blocks would have to visit the card one by one; leave out --whole."
    return ""


def _stage1(models: Models, precision: str, device: torch.device, clock: Clock) -> Measured:
    stage1, seconds, chunks = StreamedStage1(models, precision, device), 0.0, chunk_grid(models.frames)
    for chunk in chunks:
        frames = chunk.stop - chunk.start
        conditioning = stage1.conditioning(frames)
        for step in range(STEPS + (chunk is not chunks[-1])):
            call = partial(stage1.pass_over, frames, step == STEPS, conditioning)
            seconds += clock.once(call)
        stage1.start += frames
    return Measured(seconds, seconds, f"whole: {len(chunks)} chunks, {models.stage1_blocks} blocks")


def _refiner(models: Models, precision: str, device: torch.device, clock: Clock) -> Measured:
    refiner, seconds, blocks = StreamedRefiner(models, precision, device), 0.0, len(chunk_grid(models.frames))
    for index in range(blocks):
        refiner.place(CHUNK_FRAMES)
        seconds += sum(clock.once(partial(refiner.step, CHUNK_FRAMES)) for _ in range(REFINER_STEPS))
        if index + 1 < blocks:
            seconds += clock.once(partial(refiner.remember, CHUNK_FRAMES))
        refiner.start += CHUNK_FRAMES
    return Measured(
        seconds, seconds, f"whole: {blocks} blocks of 3 latent frames, {models.refiner_blocks} layers"
    )


def _decoder(models: Models, precision: str, device: torch.device, clock: Clock) -> Measured:
    decoder = StreamedDecoder(models, precision, device)
    seconds = sum(clock.once(decoder.next) for _ in range(models.frames))
    return Measured(seconds, seconds, f"whole: {models.frames} latents")
