# SPDX-License-Identifier: GPL-3.0-or-later
"""Every operator of `kernels` on a device: is it right, and how fast is it beside what the device can do?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch

from kernels import OPERATORS

from .cards import Card
from .cases import BASELINE, CASES, Compared, OperatorCases, Sizes, Timed
from .clock import Clock
from .rows import Row, guarded

_WITHOUT_CASES = OperatorCases({}, {})


def parity_rows(device: torch.device) -> Iterator[Row]:
    """Each tensor of each case of each operator, beside its truth."""
    for operator in OPERATORS:
        cases = CASES.get(operator, _WITHOUT_CASES).parity
        if not cases:
            yield Row("parity", operator, {"passed": False}, "it has no cases in backend/bench/cases.")
        for case, compared in cases.items():
            name = f"{operator}, {case}"
            yield from guarded("parity", name, partial(_compared_rows, name, compared, device))


def _compared_rows(name: str, compared: Callable, device: torch.device) -> Iterator[Row]:
    for found in compared(device):
        yield _parity_row(name, found)


def _parity_row(name: str, found: Compared) -> Row:
    error = found.error
    values = {"tensor": found.tensor, "gate": float(found.gate)}
    if not math.isfinite(error):
        return Row("parity", name, {**values, "passed": False}, "it holds numbers that are not finite.")
    return Row("parity", name, {**values, "error": error, "passed": error <= found.gate})


def speed_rows(device: torch.device, clock: Clock, card: Card, sizes: Sizes, clip: bool) -> Iterator[Row]:
    """Times of each case at a streaming chunk, and at the whole clip.

    Args:
        clip: whether the whole clip is timed too.
    """
    lengths = {"chunk": sizes.chunk_frames, **({"clip": sizes.clip_frames} if clip else {})}
    operators = {name: CASES.get(name, _WITHOUT_CASES) for name in OPERATORS}
    for operator, cases in {**operators, "torch": BASELINE}.items():
        for case, make in cases.timed.items():
            for what, frames in lengths.items():
                name = f"{operator}, {case}, {what} of {frames * sizes.cells} tokens"
                work = partial(make, sizes, frames, device)
                yield from guarded("operators", name, partial(_timed_rows, name, work, clock, card))


def _timed_rows(name: str, make: Callable[[], Timed], clock: Clock, card: Card) -> Iterator[Row]:
    timed = make()
    clock.forget_peak()
    seconds = clock.seconds(timed.call)
    bound_s = card.bound_s(timed.flop, timed.moved, timed.format)
    values = {
        "ms": 1e3 * seconds,
        "GB/s": timed.moved / seconds / 1e9,
        "TFLOP/s": timed.flop / seconds / 1e12,
        "bound ms": 1e3 * bound_s,
        "of bound": bound_s / seconds,
        "memory GB": clock.memory_gb(),
    }
    yield Row("operators", name, values)
