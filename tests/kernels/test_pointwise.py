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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_taps", [False, True])
def test_gradients_of_the_prologue_are_those_of_its_definition(with_taps, dtype):
    weight, taps = 1 + randn(48, seed=1), randn(48, 1, 4, seed=2)
    keywords = {"taps": taps.to(dtype), "rectify": True} if with_taps else {"scale": 0.2}
    gradients = []
    for operator in (qk_prologue.prologue, prologues.prologue):
        together = randn(2, 7, 5, 3 * 48).to(dtype).requires_grad_()
        of_norm = weight.to(dtype).requires_grad_()
        out = operator(together.chunk(3, dim=-1)[1], of_norm, 1e-5, **keywords)
        (out.float() * randn(2, 7, 5, 48, seed=3)).sum().backward()
        gradients.append((together.grad.float(), of_norm.grad.float()))
    for name, fast, plain in zip(("x", "weight"), *gradients, strict=True):
        assert_close(f"gradient of {name}", fast, plain, 1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("crosses", [True, False])
def test_key_convolution_sees_what_it_may_and_leaves_its_input_alone(crosses):
    x, taps, chunks = randn(2, 10, 5, 6, seed=2), randn(6, 1, 4, seed=1), slices(4, 7, 10)
    expected = torch.zeros_like(x)
    for chunk in chunks:
        for t in range(chunk.start, chunk.stop):
            for other in range(0 if crosses else chunk.start, chunk.stop):
                if abs(t - other) <= 3:
                    expected[:, t] += taps[:, 0, 3 - abs(t - other)] * x[:, other]
    given, ones = x.clone(), torch.ones(6)
    with torch.no_grad():
        out = qk_prologue.prologue(given, ones, 1e-5, taps=taps, chunks=chunks, crosses_chunks=crosses)
    assert torch.equal(given, x), "its last frames are carried to the next chunk"
    assert_close("whole", out, prologues.prologue(expected, ones, 1e-5), 1e-6)
    before = torch.cat([torch.zeros(2, 3, 5, 6), x], dim=1)
    for chunk in chunks:
        tail = before[:, chunk.start : chunk.start + 3]
        settings = {"taps": taps, "tail": tail, "crosses_chunks": crosses}
        part = qk_prologue.prologue(x[:, chunk], ones, 1e-5, **settings)
        assert_close(f"frames {chunk.start}..", part, out[:, chunk], 1e-6)


@pytest.mark.parametrize("with_gradients", [False, True])
def test_modulation_and_gates(with_gradients):
    rows = randn(2, 3, 3, 48, seed=1).unsqueeze(3).unbind(2)
    x, change, added = 3 * randn(2, 3, 5, 48) + 1, randn(2, 3, 5, 48, seed=2), randn(2, 3, 5, 48, seed=3)
    cases = (
        (modulation.modulated, modulations.modulated, (x, rows[0], rows[1])),
        (modulation.gated_residual, modulations.gated_residual, (x, rows[2], change)),
        (modulation.gated_residual, modulations.gated_residual, (x, rows[2], change, added.clone())),
        (gated_unit.gated, gates.gated, (torch.cat([x, change], dim=-1),)),
        (gated_unit.gated_sum, gates.gated_sum, (x, change.clone(), added.clone())),
        (gated_unit.gated_sum, gates.gated_sum, (x, None, added.clone())),
    )
    for operator, definition, given in cases:
        expected = definition(*given)
        with torch.set_grad_enabled(with_gradients):
            assert_close(operator.__name__, operator(*given), expected, 1e-6)
    total, modulated = modulations.residual_modulated(x, change, *rows[:2])
    with torch.set_grad_enabled(with_gradients):
        found = modulation.residual_modulated(x, change.clone(), *rows[:2])
    assert_close("sum", found[0], total, 1e-6)
    assert_close("modulated sum", found[1], modulated, 1e-6)
