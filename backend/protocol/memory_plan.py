# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the released model is on the device when, decided before anything loads.

The stages of a clip are prompts, first frame, stage 1, refiner and decoder. A large device has the last three
together, and those of a streaming clip work at the same time; on a smaller one they come one after another, and on a
small one the blocks of a transformer stay in host memory (on a CPU: on the disk) and visit the device one by one.

Sizes of weights and of what is remembered are exact. What a call needs beside them was counted, tensor by tensor, in
this implementation (`tests/live_bytes.py`); what libraries and the allocator take is an allowance, chosen once, with
which the sums come within a tenth of the three peaks that the authors of SANA-WM publish. No GPU has confirmed them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from .errors import ProtocolError
from .limits import STREAMING_CHUNK, TEMPORAL_STRIDE
from .preset import Preset

GB = 1e9
SPATIAL_STRIDE = 32
# Bytes for each parameter of a linear that precision applies to; NVFP4 has a scale for every 16 of them.
_LINEAR_BYTES = {"fp32": 4.0, "bf16": 2.0, "fp8": 1.0, "nvfp4": 0.5625}
# Fragments and the rounding of the allocator; CUDA itself and its libraries' workspaces.
_ALLOCATOR, _LIBRARIES_GB = 1.04, 1.0
# Copies of a token, of the model's width and in its number format, that one call holds at its peak.
_STAGE1_COPIES, _REFINER_COPIES = 17.0, 8.0
# The refiner's feed-forward has three copies of all tokens and eight of those that it works on at a time.
_FEED_FORWARD_COPIES, _HIDDEN_COPIES, _FEED_FORWARD_TOKENS = 3.0, 8.0, 16384
# Of the decoder, for each latent cell in 16-bit numbers: a tile of latents for each of them, a causal step, its carry.
_TILE_BYTES, _CAUSAL_BYTES, _CARRY_BYTES = 655e3, 2.7e6, 676e3
TILE_LATENTS, TILE_CELLS = 13, 16
_PROMPT_TOKENS = 300  # that stage 1 sees at most
_REFINER_BLOCK = STREAMING_CHUNK // TEMPORAL_STRIDE
# Data-sheet rates in TFLOP/s for dense bf16, and how much of that such models reach elsewhere.
_RATES = {"H200": 989.4, "H100": 989.4, "A100": 312.0, "5090": 209.5, "4090": 165.2}
_REACHED, _HOST_GB_S = 0.33, 25.0


@dataclass(frozen=True)
class ModelSizes:
    """Of the released model: parameters, and the numbers that memory is counted with.

    Attributes:
        stage1, stage1_linears, stage1_block: parameters in all, in the linears that are quantised, in the largest
            block.
        stage1_width, stage1_blocks, stage1_softmax_blocks: tokens' width, blocks, and those of them with softmax.
        refiner, refiner_linears, refiner_block, refiner_width, refiner_blocks: the same of the refiner.
        encoder, decoder: of the video autoencoder.
        text_layer: of the larger text encoder, which is read layer by layer.
        text_tokens: that the refiner sees.
        latent_channels, decoder_width: of the autoencoder; the decoder's at full size.
        head_dim: of stage 1.
    """

    stage1: int = 2_661_800_468
    stage1_linears: int = 1_806_336_000
    stage1_block: int = 130_764_560
    stage1_width: int = 2240
    stage1_blocks: int = 20
    stage1_softmax_blocks: int = 5
    refiner: int = 13_041_520_768
    refiner_linears: int = 12_884_901_888
    refiner_block: int = 268_529_664
    refiner_width: int = 4096
    refiner_blocks: int = 48
    encoder: int = 694_098_881
    decoder: int = 528_380_720
    text_layer: int = 224_148_992
    text_tokens: int = 1024
    latent_channels: int = 128
    decoder_width: int = 128
    head_dim: int = 112


RELEASED = ModelSizes()


@dataclass(frozen=True)
class Budget:
    """What the machine has to spare.

    Attributes:
        device_gb: of the device that computes, in 1e9 bytes.
        host_gb: of main memory; for a CPU the same memory.
        device: its name, for the estimate of the time.
        is_cpu: blocks are streamed from the disk and not from host memory.
    """

    device_gb: float
    host_gb: float
    device: str = ""
    is_cpu: bool = False


@dataclass(frozen=True)
class StagePlan:
    """One row of the table.

    Attributes:
        name: for people.
        weights_gb: of its weights on the device.
        peak_gb: on the device while it works, its weights included; libraries not.
        tflop: floating-point work, 1 multiply-add counted as 2.
        seconds: about how long that takes; None where the device's rate is not known.
    """

    name: str
    weights_gb: float
    peak_gb: float
    tflop: float
    seconds: float | None


@dataclass(frozen=True)
class MemoryPlan:
    """What was decided.

    Attributes:
        stages: in the order of their work.
        together: stage 1, refiner and decoder are on the device together, and stay there for the next clip.
        stage1_streamed, refiner_streamed: their blocks visit the device one by one.
        spatial_tiles: frames are decoded in parts.
        peak_gb: on the device, everything included.
    """

    stages: tuple[StagePlan, ...]
    together: bool = False
    stage1_streamed: bool = False
    refiner_streamed: bool = False
    spatial_tiles: bool = False
    peak_gb: float = 0.0

    def in_words(self) -> str:
        """How the model is laid out, as a sentence."""
        streamed = [
            name
            for name, is_streamed in (
                ("stage 1", self.stage1_streamed),
                ("the refiner", self.refiner_streamed),
            )
            if is_streamed
        ]
        words = "all of the model on the device" if self.together else "one stage after another"
        if streamed:
            words += f", the blocks of {' and '.join(streamed)} visiting the device one by one"
        if self.spatial_tiles:
            words += ", frames decoded in parts"
        return f"{words[0].upper()}{words[1:]}: at most {self.peak_gb:.1f} GB."


def plan(preset: Preset, frames: int, budget: Budget, sizes: ModelSizes = RELEASED) -> MemoryPlan:
    """The fastest layout that fits.

    Args:
        frames: pixel frames that are sampled.

    Raises:
        ProtocolError: none fits; the sentence says what is missing and the nearest setting that would fit.
    """
    fitting = _first_fit(preset, frames, budget, sizes)
    if fitting is not None:
        return fitting
    least = min(layouts(preset, frames, budget, sizes), key=lambda layout: layout.peak_gb)
    short_of_host = least.peak_gb <= budget.device_gb
    needed = (
        f"{_host_gb(least, preset, sizes):.0f} GB of main memory, and {budget.host_gb:.0f} GB are free"
        if short_of_host
        else f"at least {least.peak_gb:.1f} GB, and {budget.device_gb:.1f} GB are free"
    )
    raise ProtocolError(
        f"{preset.name} needs {needed} for {frames} frames; {_nearest(preset, frames, budget, sizes)}."
    )


def _first_fit(preset: Preset, frames: int, budget: Budget, sizes: ModelSizes) -> MemoryPlan | None:
    for layout in layouts(preset, frames, budget, sizes):
        waits_in_host = not budget.is_cpu and _host_gb(layout, preset, sizes) > budget.host_gb
        if layout.peak_gb <= budget.device_gb and not waits_in_host:
            return layout
    return None


def layouts(preset: Preset, frames: int, budget: Budget, sizes: ModelSizes) -> Iterator[MemoryPlan]:
    """Every way to lay the model out, the fastest first."""
    is_streaming = preset.variant == "streaming"
    choices = [MemoryPlan((), together=True), MemoryPlan(())]
    if preset.refiner:
        choices.append(MemoryPlan((), refiner_streamed=True))
    choices.append(MemoryPlan((), stage1_streamed=True, refiner_streamed=preset.refiner))
    for choice in choices:
        # A causal decoder carries its past for the whole frame, so it has no parts.
        for spatial_tiles in (False,) if is_streaming else (False, True):
            layout = replace(choice, spatial_tiles=spatial_tiles)
            stages = tuple(_stages(preset, frames, layout, budget, sizes))
            peak = max(stage.peak_gb for stage in stages)
            if layout.together:
                work = [stage.peak_gb - stage.weights_gb for stage in stages[2:]]
                at_once = sum(work) if is_streaming else max(work)
                peak = max(peak, at_once + sum(stage.weights_gb for stage in stages[2:]))
            allowance = 0.0 if budget.is_cpu else _LIBRARIES_GB
            yield replace(layout, stages=stages, peak_gb=_ALLOCATOR * peak + allowance)


def _stages(
    preset: Preset, frames: int, layout: MemoryPlan, budget: Budget, sizes: ModelSizes
) -> Iterator[StagePlan]:
    cells = math.prod(preset.image_size) // SPATIAL_STRIDE**2
    latents = (frames - 1) // TEMPORAL_STRIDE + 1
    number = _number(preset)
    visiting = 1 if budget.is_cpu else 2  # blocks that are on the device while one of them works

    def stage(
        name: str, weights_gb: float, working_gb: float, tflop: float, moved_gb: float = 0.0
    ) -> StagePlan:
        seconds = _seconds(tflop, moved_gb, budget)
        return StagePlan(name, weights_gb, weights_gb + working_gb, tflop, seconds)

    layer = 2 * number * sizes.text_layer / GB
    yield stage("Prompts", layer, 0.6 * number / 2 * sizes.text_tokens / 1024, 2e-3 * sizes.text_tokens * 12)

    encoder = number * sizes.encoder / GB
    yield stage("First frame", encoder, 0.19e6 * number / 2 * cells / GB, 6e-3 * cells)

    linear = _LINEAR_BYTES[preset.precision]
    if layout.stage1_streamed:
        rest = sizes.stage1 - sizes.stage1_blocks * sizes.stage1_block
        linears = sizes.stage1_linears / sizes.stage1_blocks
        block = linear * linears + number * (sizes.stage1_block - linears)
        weights = (number * max(rest, 0) + visiting * block) / GB
    else:
        weights = _stage1_bytes(preset, sizes) / GB
    at_once = _REFINER_BLOCK + 1 if preset.variant == "streaming" else latents
    active = _STAGE1_COPIES * at_once * cells * sizes.stage1_width * number
    prompts = 1 if preset.guidance == 1 else 2
    kept = 2 * prompts * _PROMPT_TOKENS * sizes.stage1_width * sizes.stage1_blocks * number
    if preset.variant == "streaming":
        heads = sizes.stage1_width // sizes.head_dim
        # Four tensors of the keys' window in every softmax block; two states and seven frames' tails in the others.
        kept += 4 * 10 * cells * sizes.stage1_width * 2 * sizes.stage1_softmax_blocks
        others = sizes.stage1_blocks - sizes.stage1_softmax_blocks
        kept += others * (2 * heads * sizes.head_dim**2 * 4 + 7 * cells * sizes.stage1_width * number)
    yield stage("Stage 1", weights, (active + kept) / GB, _stage1_tflop(preset, cells * latents))

    if preset.refiner:
        if layout.refiner_streamed:
            rest = sizes.refiner - sizes.refiner_blocks * sizes.refiner_block
            linears = sizes.refiner_linears / sizes.refiner_blocks
            block = linear * linears + number * (sizes.refiner_block - linears)
            weights = (number * rest + visiting * block) / GB
        else:
            weights = _refiner_bytes(preset, sizes) / GB
        token = 2 * sizes.refiner_width * number
        text = token * sizes.text_tokens * sizes.refiner_blocks
        if preset.variant == "streaming":
            history = token * cells * preset.refiner_window * sizes.refiner_blocks
            prefix, tokens = token * cells * (preset.refiner_window + _REFINER_BLOCK), _REFINER_BLOCK * cells
        else:
            history, prefix = token * cells * sizes.refiner_blocks, 0.0  # the sink alone
            tokens = latents * cells
        attending = _REFINER_COPIES * tokens * token / 2 + prefix
        hidden = _HIDDEN_COPIES * min(tokens, _FEED_FORWARD_TOKENS)
        rotary = tokens * sizes.refiner_width * 4
        active = rotary + max(attending, (_FEED_FORWARD_COPIES * tokens + hidden) * token / 2)
        passes, tflop = _refiner_work(preset, cells, latents)
        moved = passes * _refiner_bytes(preset, sizes) / GB if layout.refiner_streamed else 0.0
        yield stage("Refiner", weights, (text + history + active) / GB, tflop, moved)

    decoder = number * sizes.decoder / GB
    scale = number / 2 * sizes.decoder_width / 128
    if preset.variant == "streaming":
        pixels = (_CAUSAL_BYTES + _CARRY_BYTES) * scale * cells
    else:
        tile = min(latents, TILE_LATENTS)
        part = min(cells, TILE_CELLS**2) if layout.spatial_tiles else cells
        # Finished parts wait for the others, in the decoder's numbers and then in fp32.
        whole = tile * TEMPORAL_STRIDE * cells * SPATIAL_STRIDE**2 * 3 * (number + 4)
        pixels = _TILE_BYTES * scale * part * tile + whole * (1.0 if layout.spatial_tiles else 0.35)
    twice = 1.0 if preset.variant == "streaming" else TILE_LATENTS / TEMPORAL_STRIDE
    parts = 1.2 if layout.spatial_tiles else 1.0
    yield stage("Decoder", decoder, pixels / GB, 9.03 / 880 * cells * latents * twice * parts)


def _seconds(tflop: float, moved_gb: float, budget: Budget) -> float | None:
    rate = next((rate for name, rate in _RATES.items() if name in budget.device), None)
    return None if rate is None else max(tflop / (rate * _REACHED), moved_gb / _HOST_GB_S)


def _stage1_tflop(preset: Preset, tokens: int) -> float:
    """Of the released stage 1: linears, text and attention for each token, times the passes over it."""
    if preset.variant == "streaming":
        return 5.76e-3 * tokens * len(preset.step_list)
    attended = 9.54e-3 * tokens / 106_480
    return (4.98e-3 + attended) * tokens * preset.steps * (1 if preset.guidance == 1 else 2)


def _refiner_work(preset: Preset, cells: int, latents: int) -> tuple[int, float]:
    """Passes over the released refiner's weights, and TFLOP in all."""
    tokens = cells * (latents - 1)
    is_streaming = preset.variant == "streaming"
    passes = 4 * math.ceil((latents - 1) / _REFINER_BLOCK) if is_streaming else 3
    keys = (preset.refiner_window + _REFINER_BLOCK) * cells if is_streaming else tokens
    return passes, (23.4e-3 + 4e-12 * keys * 4096 * 48) * tokens * (4 if is_streaming else 3)


def _host_gb(layout: MemoryPlan, preset: Preset, sizes: ModelSizes) -> float:
    """Main memory that streamed blocks wait in."""
    stage1 = _stage1_bytes(preset, sizes) * layout.stage1_streamed
    return (stage1 + _refiner_bytes(preset, sizes) * layout.refiner_streamed) / GB


def _stage1_bytes(preset: Preset, sizes: ModelSizes) -> float:
    return _bytes(preset, sizes.stage1_linears, sizes.stage1 - sizes.stage1_linears)


def _refiner_bytes(preset: Preset, sizes: ModelSizes) -> float:
    return _bytes(preset, sizes.refiner_linears, sizes.refiner - sizes.refiner_linears)


def _bytes(preset: Preset, linears: int, others: int) -> float:
    """Of the parameters that precision applies to, and of all others."""
    return _LINEAR_BYTES[preset.precision] * linears + _number(preset) * others


def _number(preset: Preset) -> float:
    """Bytes of a number that is not quantised."""
    return 4.0 if preset.precision == "fp32" else 2.0


def _nearest(preset: Preset, frames: int, budget: Budget, sizes: ModelSizes) -> str:
    """The setting that fits and is nearest to what was wanted, as the end of a sentence."""
    if preset.refiner and preset.variant == "streaming":
        for window in (5, 2):
            if window < preset.refiner_window and _first_fit(
                replace(preset, refiner_window=window), frames, budget, sizes
            ):
                return f"it fits with a refiner window of {window} frames, at the price of some flicker"
    stride = TEMPORAL_STRIDE if preset.variant == "bidirectional" else STREAMING_CHUNK
    for shorter in range(frames - stride, stride, -stride):
        if preset.variant != "streaming" and _first_fit(preset, shorter, budget, sizes):
            return f"a clip of up to {shorter} frames fits"
    if preset.refiner and _first_fit(replace(preset, refiner=False, refiner_lora=""), frames, budget, sizes):
        return "it fits without the refiner"
    return "choose an Embedded preset, or a machine with more memory"
