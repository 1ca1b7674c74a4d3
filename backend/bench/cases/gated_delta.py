# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases of the frame-wise Gated DeltaNet, main and camera branch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels import frame_gdn as operator
from kernels.frame_gdn import naive

from ..counts import gated_delta
from .case import GATES, Compared, OperatorCases, Sizes, Timed, randn, working_dtype

# batch, frames, tokens of a frame, heads, head width; chunks end at these frames
_ODD = (1, 4, 37, 3, 112), (1, 4)
_SHORT = (2, 3, 11, 2, 48), (3,)


def _tokens(shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """q, k, v, beta, decay and rotary on the CPU in fp32, as stage 1 has them."""
    batch, frames, cells, heads, dim = shape
    q, k, v = (randn(*shape, seed=seed) for seed in (1, 2, 3))
    beta = randn(batch, frames, cells, heads, seed=4).sigmoid()
    decay = randn(batch, frames, heads, seed=5).sigmoid()
    angle = randn(frames, cells, dim // 2, seed=6)
    rotary = torch.polar(torch.ones_like(angle), angle)
    return q.relu(), k.relu() * (dim * cells) ** -0.5, v, beta, decay, rotary


def _state(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Carried states: numerator and denominator of the main branch, numerator of the camera branch."""
    batch, _, _, heads, dim = shape
    main, camera = (0.3 * randn(batch, heads, dim, dim, seed=seed) for seed in (7, 8))
    return main, randn(batch, heads, dim, 1, seed=9).abs(), camera


def _compared(
    shape: tuple[int, ...], ends: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Iterator[Compared]:
    q, k, v, beta, decay, rotary = _tokens(shape)
    chunks = [slice(start, end) for start, end in zip((0, *ends), ends, strict=False)]
    # The truth is computed of the rounded numbers.
    q, k, v, beta = (x.to(dtype) for x in (q, k, v, beta))
    numerator, denominator, camera = _state(shape)
    there = [x.to(device) for x in (q, k, v, beta, decay)]
    start = numerator.to(device), denominator.to(device)
    truth, states = naive.frame_gdn(q, k, v, beta, decay, rotary, chunks, (numerator, denominator))
    got, own_states = operator.frame_gdn(*there, rotary.to(device), chunks, start)
    yield Compared("main branch", got, truth, GATES[dtype])
    yield Compared("numerator's state", own_states[0], states[0], GATES[dtype])
    yield Compared("denominator's state", own_states[1], states[1], GATES[dtype])
    truth, state = naive.camera_gdn(q, k, v, beta, decay, chunks, camera)
    got, own_state = operator.camera_gdn(*there, chunks, camera.to(device))
    yield Compared("camera branch", got, truth, GATES[dtype])
    yield Compared("camera's state", own_state, state, GATES[dtype])


def _timed(sizes: Sizes, frames: int, device: torch.device, is_camera: bool) -> Timed:
    shape = 1, frames, sizes.cells, sizes.heads, sizes.head_dim
    dtype = working_dtype(device)
    q, k, v, beta = (torch.rand(size, device=device).to(dtype) for size in (*[shape] * 3, shape[:-1]))
    k = k * (sizes.head_dim * sizes.cells) ** -0.5
    decay = torch.full((1, frames, sizes.heads), 0.9, device=device)
    work = gated_delta(frames, sizes.cells, sizes.heads, sizes.head_dim, is_camera)
    moved = work.moved("bf16") * dtype.itemsize / 2
    if is_camera:
        return Timed(lambda: operator.camera_gdn(q, k, v, beta, decay), work.flop, moved, "bf16")
    angle = torch.rand(frames, sizes.cells, sizes.head_dim // 2, device=device)
    rotary = torch.polar(torch.ones_like(angle), angle)
    return Timed(lambda: operator.frame_gdn(q, k, v, beta, decay, rotary), work.flop, moved, "bf16")


CASES = OperatorCases(
    parity={
        "two chunks, D 112, fp32": lambda device: _compared(*_ODD, torch.float32, device),
        "two chunks, D 112, bf16": lambda device: _compared(*_ODD, torch.bfloat16, device),
        "one chunk, D 48, fp32": lambda device: _compared(*_SHORT, torch.float32, device),
    },
    timed={
        "main": lambda sizes, frames, device: _timed(sizes, frames, device, False),
        "camera": lambda sizes, frames, device: _timed(sizes, frames, device, True),
    },
)
