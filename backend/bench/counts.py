# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic and the bytes of every kernel of a clip, counted from the configs of the released models.

1 multiply-add is 2 FLOP. Bytes are those that a kernel has to move at least: each input read and each output written
once. Chunks are counted one by one: the first has a latent frame more and nothing before it, and nothing is
remembered of the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..models.refiner.config import RefinerConfig
from ..models.stage1.carry import CarryPlan
from ..models.stage1.config import Stage1Config
from ..sampling.chunk_grid import chunk_grid
from ..sampling.refine import SIGMAS
from ..sampling.self_forcing import RELEASED_STEP_LIST
from .cards import BYTES

FRAMES, CELLS = 121, (22, 40)  # a clip of 60 s at 1280 x 704, in latent frames and cells
PROMPT_TOKENS, REFINER_PROMPT_TOKENS = 300, 1024
REFINER_WINDOW = 11
BIDIRECTIONAL_STEPS, GUIDED = 60, 2


@dataclass(frozen=True)
class Kernel:
    """One kernel, or several of one shape, with its calls.

    Attributes:
        flop: of one call.
        numbers: activations that one call reads and writes, in 16 bits.
        weights: numbers of the weight that it reads.
        is_quantized: whether the weight is one of those that presets in FP8 and NVFP4 quantise.
        states: bytes in fp32 that it reads and writes besides.
        calls: in the clip.
    """

    name: str
    flop: float
    numbers: float
    weights: float = 0.0
    is_quantized: bool = False
    states: float = 0.0
    calls: int = 1

    def moved(self, precision: str) -> float:
        """Bytes of one call."""
        weight_bytes = BYTES[self.format(precision)]
        return BYTES["bf16"] * self.numbers + weight_bytes * self.weights + self.states

    def format(self, precision: str) -> str:
        """Of its products where the model runs in a precision."""
        return precision if self.is_quantized else "bf16"


def linear(
    name: str, tokens: int, inputs: int, outputs: int, is_quantized: bool = False, calls: int = 1
) -> Kernel:
    flop, numbers = 2.0 * tokens * inputs * outputs, tokens * (inputs + outputs)
    return Kernel(name, flop, numbers, inputs * outputs, is_quantized, calls=calls)


def attention(name: str, tokens: int, keys: int, width: int, calls: int = 1) -> Kernel:
    return Kernel(name, 4.0 * tokens * keys * width, width * (2 * tokens + 2 * keys), calls=calls)


def pointwise(name: str, numbers: float, flop: float, calls: int = 1) -> Kernel:
    return Kernel(name, flop, numbers, calls=calls)


def gated_delta(frames: int, cells: int, heads: int, dim: int, is_camera: bool, calls: int = 1) -> Kernel:
    """The frame-wise Gated DeltaNet with both directions of time: products of every frame, two scans, one read.

    Every product is counted once, though the matrices of keys are symmetric; the main branch has a denominator.
    """
    product = 2.0 * frames * heads * cells * dim * dim
    scan = 2.0 * frames * heads * dim**3
    vectors = 0.0 if is_camera else 2.0 * frames * heads * dim * (2 * cells + 2 * dim)
    flop = (3 if is_camera else 4) * product + 2 * scan + vectors
    name = "Gated DeltaNet, camera" if is_camera else "Gated DeltaNet, main"
    # Of each frame: keys' products, update and history, each written once and read once; the main branch has products
    # of un-rotated keys besides. The carried state comes in and goes out.
    matrices = (6 if is_camera else 8) * frames + 2
    states = 4.0 * heads * dim * dim * matrices
    return Kernel(name, flop, 4 * frames * cells * heads * dim, states=states, calls=calls)


def stage1_pass(
    config: Stage1Config, frames: int, keys: int, cells: int, passes: int = 1
) -> Iterator[Kernel]:
    """One forward of the transformer over some latent frames.

    The projection of Plücker rays is counted as released, width to width; this implementation folds it into a map of
    48 channels, which is a twenty-fourth of the linears less.

    Args:
        keys: latent frames that softmax attention sees.
        passes: how often the clip has this forward.
    """
    d, hidden, heads, dim = config.hidden_size, config.mlp_hidden, config.num_heads, config.head_dim
    n, blocks = frames * cells, config.num_layers
    softmax = sum(config.is_softmax(index) for index in range(blocks))
    delta = blocks - softmax

    def many(in_one_pass: int) -> int:
        return in_one_pass * passes

    every = many(blocks)
    yield linear("latents in", n, config.in_channels, d, calls=many(1))
    yield pointwise("layer norm and modulation", 2 * n * d, 8.0 * n * d, many(2 * blocks))
    yield linear("queries, keys, values", n, d, 3 * d, True, every)
    yield linear("camera's queries, keys, values, output", n, d, d, calls=many(4 * blocks))
    yield linear("gates of the delta rule", n, d, heads, calls=many(delta))
    yield pointwise("norm, short convolution, rotation", 2 * n * d, 20.0 * n * d, many(4 * blocks))
    yield pointwise("ray transforms", 2 * n * d, 8.0 * n * d, many(4 * blocks))
    yield gated_delta(frames, cells, heads, dim, False, many(delta))
    yield gated_delta(frames, cells, heads, dim, True, many(delta))
    if softmax:
        yield attention("softmax attention, main and camera", n, keys * cells, d, many(2 * softmax))
    yield linear("output gate, projection", n, d, d, True, many(2 * blocks))
    yield pointwise("SiLU of the output gate", 4 * n * d, 6.0 * n * d, every)
    yield linear("Plücker projection", n, d, d, calls=every)
    yield linear("text attention's queries and output", n, d, d, True, many(2 * blocks))
    yield attention("text attention", n, PROMPT_TOKENS, d, every)
    yield pointwise("gated residuals", 3 * n * d, 2.0 * n * d, many(3 * blocks))
    yield linear("feed-forward up", n, d, 2 * hidden, True, every)
    yield Kernel("depthwise convolution", 36.0 * n * hidden, 4 * n * hidden, 18 * hidden, calls=every)
    down = linear("feed-forward down, gated", n, hidden, d, True, every)
    yield Kernel(down.name, down.flop, down.numbers + n * hidden, down.weights, True, calls=every)
    yield Kernel("temporal convolution", 6.0 * n * d * d, 2 * n * d, 3 * d * d, calls=every)
    yield linear("latents out", n, d, config.out_channels, calls=many(1))


def stage1_streaming(config: Stage1Config, frames: int = FRAMES) -> Iterator[Kernel]:
    """The student: four steps for each chunk, and a pass over the clean chunk for the carry but for the last."""
    cells, chunks = CELLS[0] * CELLS[1], chunk_grid(frames)
    plan = CarryPlan(chunks[0].stop, chunks[-1].stop - chunks[-1].start)
    for index, chunk in enumerate(chunks):
        seen = plan.frames_seen(index)
        passes = len(RELEASED_STEP_LIST) - 1 + (index + 1 < len(chunks))
        yield from stage1_pass(config, chunk.stop - chunk.start, seen.stop - seen.start, cells, passes)


def stage1_bidirectional(config: Stage1Config, frames: int = FRAMES, passes: int = 1) -> Iterator[Kernel]:
    """One forward over the whole clip, or many."""
    return stage1_pass(config, frames, frames, CELLS[0] * CELLS[1], passes)


def refiner_pass(
    config: RefinerConfig, frames: int, keys: int, cells: int, passes: int = 1
) -> Iterator[Kernel]:
    """One forward of the video stream over some latent frames; the prompt's keys are there already."""
    d, layers, n = config.hidden_size, config.num_layers * passes, frames * cells
    yield linear("latents in", n, config.in_channels, d, calls=passes)
    yield pointwise("norm and modulation", 2 * n * d, 6.0 * n * d, 3 * layers)
    yield linear("queries, keys, values, output", n, d, d, True, 4 * layers)
    yield pointwise("norm and rotation", 2 * n * d, 10.0 * n * d, 3 * layers)
    yield attention("softmax attention", n, keys * cells, d, layers)
    yield linear("text attention's queries and output", n, d, d, True, 2 * layers)
    yield attention("text attention", n, REFINER_PROMPT_TOKENS, d, layers)
    yield linear("feed-forward up", n, d, 4 * d, True, layers)
    yield linear("feed-forward down", n, 4 * d, d, True, layers)
    yield pointwise("gated residuals", 3 * n * d, 2.0 * n * d, 3 * layers)
    yield linear("latents out", n, d, config.in_channels, calls=passes)


def refiner_streaming(
    config: RefinerConfig, frames: int = FRAMES, window: int = REFINER_WINDOW
) -> Iterator[Kernel]:
    """The sink, then blocks of three frames: three steps each, and a clean pass for the memory but for the last."""
    cells = CELLS[0] * CELLS[1]
    yield from refiner_pass(config, 1, 1, cells)
    chunks = chunk_grid(frames)
    for index, chunk in enumerate(chunks):
        start = max(chunk.start, 1)
        active, history = chunk.stop - start, min(start - 1, window - 1)
        passes = len(SIGMAS) - 1 + (index + 1 < len(chunks))
        yield from refiner_pass(config, active, 1 + history + active, cells, passes)


@dataclass(frozen=True)
class DecoderSizes:
    """The LTX-2 video decoder: channels from the latents on, residual blocks at each width (its config.json)."""

    latent_channels: int = 128
    channels: tuple[int, ...] = (1024, 512, 256, 128)
    resnets: int = 5
    output_channels: int = 48  # 4 x 4 pixels of 3 colours


def decoder(sizes: DecoderSizes, frames: int = FRAMES) -> Iterator[Kernel]:
    """All latent frames to pixels; norm and SiLU counted into the convolution that follows."""
    (height, width), t = CELLS, frames

    def convolution(name: str, inputs: int, outputs: int, calls: int = 1) -> Kernel:
        positions = t * height * width
        weights = 27 * inputs * outputs
        return Kernel(name, 2.0 * positions * weights, positions * (inputs + outputs), weights, calls=calls)

    widest = sizes.channels[0]
    yield convolution(f"convolution {sizes.latent_channels} to {widest}", sizes.latent_channels, widest)
    for index, channels in enumerate(sizes.channels):
        if index:
            # Eight times the channels of half the width, then folded out into time, rows and columns.
            before = sizes.channels[index - 1]
            yield convolution(f"upsampling {before} to {4 * before}", before, 4 * before)
            t, height, width = 2 * t - 1, 2 * height, 2 * width
        yield convolution(f"convolutions {channels}", channels, channels, 2 * sizes.resnets)
    last = sizes.channels[-1]
    yield convolution(f"convolution {last} to {sizes.output_channels}", last, sizes.output_channels)


def merged(kernels: Iterator[Kernel]) -> dict[str, list[Kernel]]:
    """Kernels of one name together; they differ in their shapes."""
    named: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        named.setdefault(kernel.name, []).append(kernel)
    return named


def total_flop(kernels: Iterator[Kernel]) -> float:
    return sum(kernel.flop * kernel.calls for kernel in kernels)
