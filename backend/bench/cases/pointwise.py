# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases of what stage 1 does to tokens one by one, or to a token and those before and behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kernels import gated_unit, modulation, qk_prologue
from kernels.gated_unit import naive as gates
from kernels.modulation import naive as modulations
from kernels.qk_prologue import naive as prologues

from .case import GATES, Compared, OperatorCases, Sizes, Timed, randn, working_dtype

_SHAPE, _CHUNKS = (2, 7, 5, 336), [slice(0, 4), slice(4, 7)]


def _compared(
    operator: Callable[..., Tensor], truth: Callable[..., Tensor], given: list[Tensor], device: torch.device
) -> Iterator[Compared]:
    """Output and gradients, of fp32 and of numbers that bf16 holds."""
    for dtype in (torch.float32, torch.bfloat16):
        rounded, found = [x.to(dtype) for x in given], []
        for function, place in ((operator, device), (truth, torch.device("cpu"))):
            leaves = [x.to(place, copy=True).requires_grad_() for x in rounded]
            out = function(*leaves)
            out.float().sin().sum().backward()
            found.append([out, *(leaf.grad for leaf in leaves)])
        names = ["output", *(f"gradient {index}" for index in range(len(given)))]
        for name, got, plain in zip(names, *found, strict=True):
            yield Compared(f"{name}, {str(dtype)[6:]}", got, plain, 2 * GATES[dtype])


def _prologue(device: torch.device) -> Iterator[Compared]:
    given = [randn(*_SHAPE), randn(336, seed=1), randn(336, 1, 4, seed=2), randn(2, 3, 5, 336, seed=3)]

    def of(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x, weight, taps, tail: function(x, weight, 1e-5, 0.3, True, taps, _CHUNKS, tail)

    yield from _compared(of(qk_prologue.prologue), of(prologues.prologue), given, device)


def _norm(device: torch.device) -> Iterator[Compared]:
    rows = [randn(2, 7, 1, 336, seed=seed) for seed in (1, 2)]
    yield from _compared(modulation.modulated, modulations.modulated, [randn(*_SHAPE), *rows], device)


def _residual(device: torch.device) -> Iterator[Compared]:
    given = [randn(*_SHAPE), randn(2, 7, 1, 336, seed=1), randn(*_SHAPE, seed=2), randn(*_SHAPE, seed=3)]
    yield from _compared(modulation.gated_residual, modulations.gated_residual, given, device)


def _feed_forward(device: torch.device) -> Iterator[Compared]:
    yield from _compared(gated_unit.gated, gates.gated, [randn(*_SHAPE)], device)


def _output(device: torch.device) -> Iterator[Compared]:
    given = [randn(*_SHAPE, seed=seed) for seed in (1, 2, 3)]
    yield from _compared(gated_unit.gated_sum, gates.gated_sum, given, device)


def _timed(
    make: Callable[[Callable[..., Tensor]], tuple[Callable[[], Tensor], int]], flop: int
) -> Callable[[Sizes, int, torch.device], Timed]:
    """Of a call that reads and writes so many tensors of all tokens, with so many operations for a number."""

    def timed(sizes: Sizes, frames: int, device: torch.device) -> Timed:
        dtype = working_dtype(device)

        def tokens(channels: int = sizes.width, cells: int = sizes.cells) -> Tensor:
            return torch.randn(1, frames, cells, channels, device=device, dtype=dtype)

        with torch.no_grad():
            call, numbers = make(sizes, tokens)
        return Timed(torch.no_grad()(call), flop * numbers, dtype.itemsize * numbers, "bf16")

    return timed


def _queries(sizes: Sizes, tokens: Callable[..., Tensor]) -> tuple[Callable[[], Tensor], int]:
    x, weight = tokens(), tokens()[0, 0, 0]
    return lambda: qk_prologue.prologue(x, weight, 1e-5, rectify=True), 2 * x.numel()


def _keys(sizes: Sizes, tokens: Callable[..., Tensor]) -> tuple[Callable[[], Tensor], int]:
    x, weight = tokens(), tokens()[0, 0, 0]
    taps = weight[:, None, None].expand(-1, 1, 4).contiguous()
    return lambda: qk_prologue.prologue(x, weight, 1e-5, 0.01, True, taps), 2 * x.numel()


def _norms(sizes: Sizes, tokens: Callable[..., Tensor]) -> tuple[Callable[[], Tensor], int]:
    x, scale, shift = tokens(), tokens(cells=1), tokens(cells=1)
    return lambda: modulation.modulated(x, scale, shift), 2 * x.numel()


def _residuals(sizes: Sizes, tokens: Callable[..., Tensor]) -> tuple[Callable[[], Tensor], int]:
    x, gate, change = tokens(), tokens(cells=1), tokens()
    return lambda: modulation.gated_residual(x, gate, change), 3 * x.numel()


def _hidden(sizes: Sizes, tokens: Callable[..., Tensor]) -> tuple[Callable[[], Tensor], int]:
    hidden = tokens(2 * sizes.hidden)
    return lambda: gated_unit.gated(hidden), 3 * hidden.numel() // 2


PROLOGUE = OperatorCases(
    parity={"keys with a tail, two chunks": _prologue},
    timed={"queries": _timed(_queries, 3), "keys": _timed(_keys, 9)},
)
MODULATION = OperatorCases(
    parity={"adaptive norm": _norm, "residual with a term": _residual},
    timed={"adaptive norm": _timed(_norms, 4), "residual": _timed(_residuals, 1)},
)
GATED_UNIT = OperatorCases(
    parity={"feed-forward": _feed_forward, "attention's output": _output},
    timed={"feed-forward": _timed(_hidden, 2)},
)
