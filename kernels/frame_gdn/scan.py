# SPDX-License-Identifier: GPL-3.0-or-later
"""The serial middle of Gated DeltaNet in Triton: states over frames in both directions, and their adjoint.

A program scans 16 value channels of one head in one direction; these evolve without the others. The main branch has
16 more, of which the first is the denominator: they have a Gram matrix of their own, of keys that are not rotated.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..ahead_of_time import Build
from .shipped import PRODUCTS_BECOME
from .tiles import padded, product

SLICE = 16


@triton.jit
def scan_kernel(
    gram, added, decay, resets, start, out, T, H, direction_out,
    D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, SLICE: tl.constexpr, ADJOINT: tl.constexpr,
):  # fmt: skip
    """out (2,B,T,H,D,E): state_t = W_t state + added_t, with W_t = g_t (1 - Gram_t), in two directions.

    Forward: first upwards from `start`; then downwards, from zero at the end of each chunk. Adjoint: first downwards
    from `start` with the matrix of the frame after, for added gradients; then upwards, from zero at the beginning of
    each chunk.
    """
    direction = tl.program_id(2)
    batch_head = tl.program_id(1).to(tl.int64)
    first = batch_head // H * T * H + batch_head % H
    slice = tl.program_id(0) * SLICE
    grams: tl.constexpr = 2 if E > D else 1
    gram += first * grams * D * D + (slice >= D).to(tl.int32) * D * D
    row, column = tl.arange(0, DP), slice + tl.arange(0, SLICE)
    places = first * D * E + row[:, None] * E + column[None]
    seen = (row < D)[:, None] & (column < E)[None]
    square_seen = (row < D)[:, None] & (row < D)[None]
    out += direction * direction_out.to(tl.int64)
    begin = start + batch_head * D * E + row[:, None] * E + column[None]
    state = tl.load(begin, mask=seen & (direction == 0), other=0.0)
    upwards = (direction == 0) != ADJOINT
    ahead = 1 if (ADJOINT and direction == 0) else 0
    for step in range(T):
        frame = tl.where(upwards, step, T - 1 - step)
        if direction == 1:
            state = tl.where(tl.load(resets + frame) != 0, 0.0, state)
        source = frame + ahead
        exists = source < T
        at = gram + source.to(tl.int64) * H * grams * D * D
        matrix = tl.load(at + row[:, None] * D + row[None], mask=square_seen & exists, other=0.0)
        gate = tl.load(decay + first + source * H, mask=exists, other=1.0)
        values = tl.load(added + frame.to(tl.int64) * H * D * E + places, mask=seen, other=0.0)
        state = gate * (state - product(matrix, state, tl.zeros_like(state), tl.float32, "tf32x3")) + values
        tl.store(out + frame.to(tl.int64) * H * D * E + places, state, mask=seen)


def scan(
    gram: Tensor, added: Tensor, decay: Tensor, resets: Tensor, start: Tensor | None, adjoint: bool = False
) -> Tensor:
    """States of all frames in both directions, fp32.

    Args:
        gram: (B,T,h,N,D,D) fp32, N = 2 with a denominator, else 1.
        added: (B,T,h,D,E) fp32, E = D + 16 with a denominator, else D.
        decay: (B,T,h) fp32.
        resets: (T,) int32, not 0 where the second direction begins anew.
        start: (B,h,D,E) fp32, what the first direction begins with; None for zeros.

    Returns:
        (2,B,T,h,D,E): forward, the state after every frame, and the state before it as seen from behind; adjoint,
        the gradients of both.
    """
    batch, frames, heads, width, columns = added.shape
    out = torch.empty(2, *added.shape, dtype=torch.float32, device=added.device)
    if start is None:
        start = torch.zeros(batch, heads, width, columns, device=added.device)
    scan_kernel[columns // SLICE, batch * heads, 2](
        gram, added, decay, resets, start, out, frames, heads, out.stride(0),
        D=width, DP=padded(width), E=columns, SLICE=SLICE, ADJOINT=adjoint, num_warps=_WARPS, num_stages=1,
    )  # fmt: skip
    return out


_WARPS = 8


def builds() -> list[Build]:
    """Of heads of 112 channels, with and without a denominator."""
    pointers = dict.fromkeys(("gram", "added", "decay", "start", "out"), "*fp32")
    return [
        Build(
            f"gated delta {'adjoint of the scan' if adjoint else 'scan'}, {branch}",
            scan_kernel,
            {**pointers, "resets": "*i32", "T": "i32", "H": "i32", "direction_out": "i64"},
            {"D": 112, "DP": 128, "E": columns, "SLICE": SLICE, "ADJOINT": adjoint},
            PRODUCTS_BECOME,
            _WARPS,
            1,
            aligned=("direction_out",),
        )
        for branch, columns in (("main", 112 + SLICE), ("camera", 112))
        for adjoint in (False, True)
    ]
