# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1's pointwise operators in torch, against the definitions."""

import pytest
import torch

from kernels import gated_unit, modulation, qk_prologue
from kernels.gated_unit import naive as gates
from kernels.modulation import naive as modulations
from kernels.qk_prologue import naive as prologues
from tests.kernel_comparison import assert_close, slices


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("with_gradients", [False, True])
@pytest.mark.parametrize("crosses", [True, False])
@pytest.mark.parametrize(
    ("frames", "chunks"), [(1, None), (3, slices(1, 3)), (4, None), (7, slices(4, 7)), (10, slices(4, 7, 10))]
)
def test_prologue(frames, chunks, crosses, with_gradients):
    weight, taps, tail = randn(48, seed=1), randn(48, 1, 4, seed=2), randn(2, 3, 5, 48, seed=3)
    angle = randn(frames, 5, 12, seed=4)
    rotary = torch.polar(torch.ones_like(angle), angle)
    for keywords in (
        {},
        {"rectify": True, "scale": 0.2},
        {"rotary": rotary},
        {"taps": taps, "chunks": chunks, "crosses_chunks": crosses, "rectify": True},
        {"taps": taps, "chunks": chunks, "crosses_chunks": crosses, "tail": tail},
    ):
        x = randn(2, frames, 5, 3 * 48).chunk(3, dim=-1)[1]
        expected = prologues.prologue(x, weight, 1e-5, **keywords)
        with torch.set_grad_enabled(with_gradients):
            assert_close("output", qk_prologue.prologue(x, weight, 1e-5, **keywords), expected, 1e-6)


@pytest.mark.parametrize("with_gradients", [False, True])
def test_modulation_and_gates(with_gradients):
    rows = randn(2, 3, 3, 48, seed=1).unsqueeze(3).unbind(2)
    x, change, added = 3 * randn(2, 3, 5, 48) + 1, randn(2, 3, 5, 48, seed=2), randn(2, 3, 5, 48, seed=3)
    cases = (
        (modulation.modulated, modulations.modulated, (x, rows[0], rows[1])),
        (modulation.gated_residual, modulations.gated_residual, (x, rows[2], change)),
        (modulation.gated_residual, modulations.gated_residual, (x, rows[2], change, added)),
        (gated_unit.gated, gates.gated, (torch.cat([x, change], dim=-1),)),
        (gated_unit.gated_sum, gates.gated_sum, (x, change.clone(), added)),
        (gated_unit.gated_sum, gates.gated_sum, (x, None, added)),
    )
    for operator, definition, given in cases:
        expected = definition(*given)
        with torch.set_grad_enabled(with_gradients):
            assert_close(operator.__name__, operator(*given), expected, 1e-6)
