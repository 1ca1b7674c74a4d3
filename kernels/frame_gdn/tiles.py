# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Triton kernels of both Gated DeltaNet branches share: tiles of tokens, their encodings, products, limits."""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

# How a tile of tokens is encoded before products: not at all, by the rotary table, or by the ray matrices of its tokens
# (first half of the channels) and the camera's rotary table (second half).
PLAIN, TURNED, RAY = 0, 1, 2
_TURNED, _RAY = tl.constexpr(TURNED), tl.constexpr(RAY)
_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
EPSILON = tl.constexpr(1e-8)


@triton.jit
def product(a, b, total, CAST: tl.constexpr, PRECISION: tl.constexpr):
    """total + a @ b, of operands rounded to CAST; Triton's interpreter cannot multiply bf16 and rounds alone."""
    a, b = a.to(CAST), b.to(CAST)
    if _INTERPRETED:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def place_of(T, H):
    """Batch, frame, head and place in (B,T,H) of this program; heads vary fastest. int64."""
    place = tl.program_id(0).to(tl.int64)
    return place // (T * H), place // H % T, place % H, place


@triton.jit
def loaded(x, rows, inside, row_stride, channels, D: tl.constexpr):
    """Channels of the token rows of x, fp32; zeros outside."""
    seen = inside[:, None] & (channels < D)[None]
    return tl.load(x + rows[:, None] * row_stride + channels[None], mask=seen, other=0.0).to(tl.float32)


@triton.jit
def stored(x, rows, inside, row_stride, channels, tile, D: tl.constexpr):
    seen = inside[:, None] & (channels < D)[None]
    tl.store(x + rows[:, None] * row_stride + channels[None], tile.to(x.dtype.element_ty), mask=seen)


@triton.jit
def square(x, row_stride, rows, columns, D: tl.constexpr):
    """Entries (rows, columns) of a (D,D) matrix, fp32; zeros outside."""
    seen = (rows < D)[:, None] & (columns < D)[None]
    return tl.load(x + rows[:, None] * row_stride + columns[None], mask=seen, other=0.0).to(tl.float32)


@triton.jit
def _turned(x, rotary, rows, inside, first, D: tl.constexpr, CONJUGATE: tl.constexpr):
    n: tl.constexpr = x.shape[0]
    pairs: tl.constexpr = x.shape[1] // 2
    even, odd = tl.split(tl.reshape(x, (n, pairs, 2)))
    pair = first // 2 + tl.arange(0, pairs)
    place = rotary + rows[:, None] * D + 2 * pair[None]
    seen = inside[:, None] & (pair < D // 2)[None]
    cosine, sine = tl.load(place, mask=seen, other=0.0), tl.load(place + 1, mask=seen, other=0.0)
    if CONJUGATE:
        sine = -sine
    return tl.reshape(tl.join(even * cosine - odd * sine, even * sine + odd * cosine), (n, 2 * pairs))


@triton.jit
def _row_of(matrix, inside, a, b, c, d, ROW: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Row ROW of every token's (4,4) matrix times the quadruples of its channels."""
    step: tl.constexpr = 4 if TRANSPOSED else 1
    at = matrix + (ROW if TRANSPOSED else 4 * ROW)
    total = tl.load(at, mask=inside, other=0.0)[:, None] * a
    total += tl.load(at + step, mask=inside, other=0.0)[:, None] * b
    total += tl.load(at + 2 * step, mask=inside, other=0.0)[:, None] * c
    return total + tl.load(at + 3 * step, mask=inside, other=0.0)[:, None] * d


@triton.jit
def _in_ray(
    x, matrix, rotary, matrix_rows, rows, inside, first,
    D: tl.constexpr, TRANSPOSED: tl.constexpr, CONJUGATE: tl.constexpr,
):  # fmt: skip
    n: tl.constexpr = x.shape[0]
    quads: tl.constexpr = x.shape[1] // 4
    even, odd = tl.split(tl.reshape(x, (n, quads, 2, 2)))
    a, c = tl.split(even)
    b, d = tl.split(odd)
    quad = first // 4 + tl.arange(0, quads)
    turns = quad - D // 8  # of the second half: two pairs in a quadruple
    place = rotary + rows[:, None] * (D // 2) + 4 * turns[None]
    seen = inside[:, None] & ((turns >= 0) & (turns < D // 8))[None]
    cosine_0, sine_0 = tl.load(place, mask=seen, other=0.0), tl.load(place + 1, mask=seen, other=0.0)
    cosine_1, sine_1 = tl.load(place + 2, mask=seen, other=0.0), tl.load(place + 3, mask=seen, other=0.0)
    if CONJUGATE:
        sine_0, sine_1 = -sine_0, -sine_1
    matrix += matrix_rows * 16
    first_half = (turns < 0)[None]
    turned_a = tl.where(
        first_half, _row_of(matrix, inside, a, b, c, d, 0, TRANSPOSED), a * cosine_0 - b * sine_0
    )
    turned_b = tl.where(
        first_half, _row_of(matrix, inside, a, b, c, d, 1, TRANSPOSED), a * sine_0 + b * cosine_0
    )
    turned_c = tl.where(
        first_half, _row_of(matrix, inside, a, b, c, d, 2, TRANSPOSED), c * cosine_1 - d * sine_1
    )
    turned_d = tl.where(
        first_half, _row_of(matrix, inside, a, b, c, d, 3, TRANSPOSED), c * sine_1 + d * cosine_1
    )
    return tl.reshape(tl.join(tl.join(turned_a, turned_c), tl.join(turned_b, turned_d)), (n, 4 * quads))


@triton.jit
def encoded(
    x, matrix, rotary, batch_rows, rows, inside, first,
    D: tl.constexpr, MODE: tl.constexpr, TRANSPOSED: tl.constexpr, CONJUGATE: tl.constexpr,
):  # fmt: skip
    """Channels first, first + 1, ... of tokens x (n,channels), fp32.

    rows: place of the tokens in a clip's tables; batch_rows: what the batch entry adds to that for the matrices. The
    adjoint of an encoding is the same with TRANSPOSED and CONJUGATE turned over.
    """
    if MODE == _TURNED:
        x = _turned(x, rotary, rows, inside, first, D, CONJUGATE)
    if MODE == _RAY:
        x = _in_ray(x, matrix, rotary, batch_rows + rows, rows, inside, first, D, TRANSPOSED, CONJUGATE)
    return x


@dataclass(frozen=True)
class Tables:
    """What encodes tokens, as the kernels read it.

    Attributes:
        rotary: (T,S,pairs,2) fp32 cosines and sines.
        to_ray, from_ray: (B,T,S,4,4) fp32, or None for the main branch.
    """

    rotary: Tensor
    to_ray: Tensor | None = None
    from_ray: Tensor | None = None

    @property
    def mode(self) -> int:
        return TURNED if self.to_ray is None else RAY


def dense_rows(x: Tensor) -> Tensor:
    """x (B,T,S,h,D) itself if its tokens lie in even steps, as in slices of one projection; else a copy."""
    _, frames, cells, _, _ = x.shape
    step = x.stride(2)
    even = x.stride(-1) == 1 and x.stride(1) == cells * step and x.stride(0) == frames * cells * step
    return x if even else x.contiguous()


def padded(width: int) -> int:
    """Channels of a tile: a power of two, and enough for a tensor core."""
    return max(16, triton.next_power_of_2(width))


def check(*tokens: Tensor) -> None:
    """Refuse what the kernels are not made for.

    Raises:
        ValueError: heads of another width, or tensors of other types.
    """
    width = tokens[0].shape[-1]
    if width % 16 or not 16 <= width <= 128:
        raise ValueError(
            f"The GPU kernels of Gated DeltaNet take heads of 16, 32, ... or 128 channels, not {width}; "
            "run a model of this width on the CPU."
        )
    types = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tokens})
    if types not in (["bfloat16"], ["float32"]):
        raise ValueError(
            f"The GPU kernels of Gated DeltaNet take bfloat16 or float32 for all of q, k and v, not "
            f"{' and '.join(types)}; run the model in bfloat16 or float32."
        )
