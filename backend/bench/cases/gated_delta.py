# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases of the frame-wise Gated DeltaNet, main and camera branch, with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from kernels import camera_gdn as camera
from kernels import frame_gdn as main
from kernels.camera_gdn import naive as camera_naive
from kernels.frame_gdn import naive as main_naive

from ..counts import gated_delta
from .case import GATES, Compared, OperatorCases, Sizes, Timed, randn, working_dtype

# batch, frames, tokens of a frame, heads, head width; chunks end at these frames
_ODD = (1, 4, 37, 3, 112), (1, 4)
_SHORT = (2, 3, 11, 2, 48), (3,)
# Rounding the output to bf16 moves the gradients of its sine further than itself.
_GRADIENT_GATES = {torch.float32: 3e-4, torch.bfloat16: 0.1}
_NAMES = ("q", "k", "v", "beta", "decay", "state", "denominator's state")


def _tokens(shape: tuple[int, ...]) -> list[Tensor]:
    """q, k, v, beta and decay on the CPU in fp32, as stage 1 has them; no head is zero, it would have no length."""
    batch, frames, cells, heads, dim = shape
    q, k, v = (randn(*shape, seed=seed) for seed in (1, 2, 3))
    beta = randn(batch, frames, cells, heads, seed=4).sigmoid()
    decay = randn(batch, frames, heads, seed=5).sigmoid()
    return [q.relu() + 0.1, (k.relu() + 0.1) * (dim * cells) ** -0.5, v, beta, decay]


def _table(frames: int, cells: int, pairs: int) -> Tensor:
    angle = randn(frames, cells, pairs, seed=6)
    return torch.polar(torch.ones_like(angle), angle)


def _rays(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Of cameras that stand where keys become longer."""
    batch, frames, cells, _, dim = shape
    to_ray = torch.eye(4).repeat(batch, frames, cells, 1, 1)
    to_ray[..., :3, :3] = torch.linalg.qr(randn(batch, frames, cells, 3, 3, seed=10))[0]
    to_ray[..., :3, 3] = 2 * randn(batch, frames, cells, 3, seed=11)
    return to_ray, torch.linalg.inv(to_ray), _table(frames, cells, dim // 4)


def _compared(
    operator: Callable[..., Any],
    truth: Callable[..., Any],
    encoding: Tensor | tuple[Tensor, ...],
    states: list[Tensor],
    case: tuple[tuple[int, ...], tuple[int, ...]],
    dtype: torch.dtype,
    device: torch.device,
) -> Iterator[Compared]:
    """Output, last state and gradients, of numbers that the dtype holds."""
    shape, ends = case
    chunks = [slice(start, end) for start, end in zip((0, *ends), ends, strict=False)]
    *tokens, decay = _tokens(shape)
    given = [*(x.to(dtype) for x in tokens), decay, *states]
    found = []
    for function, place in ((operator, device), (truth, torch.device("cpu"))):
        leaves = [x.to(place).requires_grad_() for x in (y.clone() for y in given)]
        there = encoding.to(place) if isinstance(encoding, Tensor) else tuple(x.to(place) for x in encoding)
        start = tuple(leaves[5:]) if len(states) > 1 else leaves[5]
        out, last = function(*leaves[:5], there, chunks, start)
        ends_with = last if isinstance(last, tuple) else (last,)
        (out.float().sin().sum() + sum(x.cos().sum() for x in ends_with)).backward()
        found.append([out, *ends_with, *(leaf.grad for leaf in leaves)])
    names = ["output", *_NAMES[5 : 5 + len(states)], *(f"gradient of {name}" for name in _NAMES)]
    for name, got, plain in zip(names, *found, strict=False):
        yield Compared(name, got, plain, _GRADIENT_GATES[dtype] if "gradient" in name else GATES[dtype])


def _main(case: tuple, dtype: torch.dtype, device: torch.device) -> Iterator[Compared]:
    batch, frames, cells, heads, dim = case[0]
    states = [0.3 * randn(batch, heads, dim, dim, seed=7), randn(batch, heads, dim, 1, seed=9).abs()]
    table = _table(frames, cells, dim // 2)
    yield from _compared(main.frame_gdn, main_naive.frame_gdn, table, states, case, dtype, device)


def _camera(case: tuple, dtype: torch.dtype, device: torch.device) -> Iterator[Compared]:
    batch, _, _, heads, dim = case[0]
    states = [0.3 * randn(batch, heads, dim, dim, seed=8)]
    yield from _compared(
        camera.camera_gdn, camera_naive.camera_gdn, _rays(case[0]), states, case, dtype, device
    )


def _parity(compared: Callable[..., Iterator[Compared]]) -> dict:
    return {
        "two chunks, D 112, fp32": lambda device: compared(_ODD, torch.float32, device),
        "two chunks, D 112, bf16": lambda device: compared(_ODD, torch.bfloat16, device),
        "one chunk, D 48, fp32": lambda device: compared(_SHORT, torch.float32, device),
    }


def _timed(sizes: Sizes, frames: int, device: torch.device, is_camera: bool) -> Timed:
    shape = 1, frames, sizes.cells, sizes.heads, sizes.head_dim
    dtype = working_dtype(device)
    q, k, v, beta = (torch.rand(size, device=device).to(dtype) for size in (*[shape] * 3, shape[:-1]))
    k = k * (sizes.head_dim * sizes.cells) ** -0.5
    decay = torch.full((1, frames, sizes.heads), 0.9, device=device)
    work = gated_delta(frames, sizes.cells, sizes.heads, sizes.head_dim, is_camera)
    moved = work.moved("bf16") * dtype.itemsize / 2
    if is_camera:
        unit = torch.eye(4, device=device).repeat(1, frames, sizes.cells, 1, 1)
        rays = unit, unit, _table(frames, sizes.cells, sizes.head_dim // 4).to(device)
        return Timed(lambda: camera.camera_gdn(q, k, v, beta, decay, rays), work.flop, moved, "bf16")
    rotary = _table(frames, sizes.cells, sizes.head_dim // 2).to(device)
    return Timed(lambda: main.frame_gdn(q, k, v, beta, decay, rotary), work.flop, moved, "bf16")


MAIN = OperatorCases(
    parity=_parity(_main),
    timed={"forward": lambda sizes, frames, device: _timed(sizes, frames, device, False)},
)
CAMERA = OperatorCases(
    parity=_parity(_camera),
    timed={"forward": lambda sizes, frames, device: _timed(sizes, frames, device, True)},
)
