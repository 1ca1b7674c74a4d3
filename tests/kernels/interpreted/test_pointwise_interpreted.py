# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1's pointwise kernels in Triton's interpreter, against the definitions and their gradients."""

from importlib import import_module

import pytest
import torch

from kernels.modulation import fused as modulations
from kernels.qk_prologue import fused, naive
from tests.kernel_comparison import assert_close, slices


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def compared(operator, call, tensors, names):
    """Output and gradients of the kernel beside those of the definition."""
    found = []
    for module in (import_module(f"kernels.{operator}.{name}") for name in ("fused", "naive")):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        outs = call(module, *leaves)
        outs = outs if isinstance(outs, tuple) else (outs,)
        sum((i + 1) * out.sin().sum() for i, out in enumerate(outs)).backward()
        found.append([*outs, *(leaf.grad for leaf in leaves)])
    told = [f"output {i}" for i in range(len(outs))] + [f"gradient of {name}" for name in names]
    for name, fast, plain in zip(told, *found, strict=True):
        assert_close(name, fast, plain, 1e-5)


@pytest.mark.parametrize("crosses", [True, False])
@pytest.mark.parametrize("has_tail", [True, False])
@pytest.mark.parametrize(
    ("batch", "frames", "cells", "channels", "chunks"),
    [(1, 1, 3, 96, None), (2, 3, 2, 64, slices(1, 3)), (1, 4, 1, 336, None), (1, 7, 2, 96, slices(4, 7))],
)
def test_keys_go_through_convolution_norm_scale_and_relu(
    batch, frames, cells, channels, chunks, has_tail, crosses
):
    tensors = [randn(batch, frames, cells, channels), randn(channels, seed=1), randn(channels, 1, 4, seed=2)]
    names = ["x", "weight", "taps"]
    if has_tail and crosses:
        tensors.append(randn(batch, 3, cells, channels, seed=3))
        names.append("tail")

    def call(module, x, weight, taps, tail=None):
        return module.prologue(x, weight, 1e-5, 0.3, True, taps, chunks, tail, crosses)

    compared("qk_prologue", call, tensors, names)


def test_queries_of_softmax_blocks_are_rotated_behind_the_norm():
    angle = randn(3, 2, 24, seed=4)
    rotary = torch.polar(torch.ones_like(angle), angle)

    def call(module, x, weight):
        return module.prologue(x, weight, 1e-5, rotary=rotary)

    compared("qk_prologue", call, [randn(2, 3, 2, 96), randn(96, seed=1)], ["x", "weight"])


def test_slices_of_a_projection_in_bf16():
    """Keys with the frames before them, queries, and a prompt's keys, which have no frames."""
    together, tail = randn(2, 5, 3, 3 * 336).bfloat16(), randn(2, 3, 3, 336, seed=3).bfloat16()
    weight, taps = randn(336, seed=1).bfloat16(), randn(336, 1, 4, seed=2).bfloat16()
    x, chunks = together.chunk(3, dim=-1)[1], slices(2, 5)
    for given, settings in (
        (x, {"rectify": True, "taps": taps, "chunks": chunks, "tail": tail, "scale": 0.1}),
        (x, {"rectify": True}),
        (x[:, 1:2], {}),
        (x[:, 1], {}),
    ):
        out = fused.prologue(given, weight, 1e-5, **settings)
        assert out.dtype == torch.bfloat16 and out.is_contiguous()
        # The interpreter cuts fp32 off to bf16; machine code rounds, see test_pointwise_compiled.py.
        assert_close("output", out, naive.prologue(given, weight, 1e-5, **settings), 4e-3)


def test_what_is_no_number_is_not_hidden_by_the_relu():
    x = randn(1, 3, 2, 48)
    x[0, 1, 1, 7] = torch.nan
    is_nan = fused.prologue(x, torch.ones(48), 1e-5, rectify=True).isnan()
    assert is_nan[0, 1, 1].all() and is_nan.sum() == 48


def test_only_wanted_gradients_are_computed():
    x, weight = randn(1, 2, 3, 48), randn(48, seed=1).requires_grad_()
    fused.prologue(x, weight, 1e-5).sum().backward()
    assert weight.grad is not None and x.grad is None
    rows, x = randn(1, 2, 1, 48, seed=2), x.requires_grad_()
    total, _ = modulations.residual_modulated(x, randn(1, 2, 3, 48, seed=3), rows, rows)
    total.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x)), "the sum alone may be used"


@pytest.mark.parametrize("shape", [(1, 1, 3, 64), (2, 3, 9, 300)])
def test_modulation(shape):
    rows = randn(shape[0], shape[1], 3, shape[3], seed=1).unsqueeze(3).unbind(2)

    def norm(module, x, scale, shift):
        return module.modulated(x, scale, shift)

    def residual(module, x, gate, *others):
        return module.gated_residual(x, gate, *others)

    def residual_norm(module, x, change, scale, shift):
        return module.residual_modulated(x, change, scale, shift)

    x, changes = 3 * randn(*shape) + 1, [randn(*shape, seed=seed) for seed in (2, 3)]
    compared("modulation", norm, [x, rows[0], rows[1]], ["x", "scale", "shift"])
    compared("modulation", residual_norm, [x, changes[0], *rows[:2]], ["x", "change", "scale", "shift"])
    compared("modulation", residual, [randn(*shape), rows[2], *changes], ["x", "gate", "change", "added"])
    compared("modulation", residual, [randn(*shape), rows[2], changes[0]], ["x", "gate", "change"])


def test_gates():
    compared("gated_unit", lambda module, x: module.gated(x), [3 * randn(2, 3, 5, 600)], ["hidden"])
    images = randn(2, 96, 3, 5)  # channels first, as a convolution may leave them
    compared("gated_unit", lambda module, x: module.gated(x.permute(0, 2, 3, 1)), [images], ["hidden"])
    given = [randn(2, 3, 48, seed=seed) for seed in range(3)]
    compared("gated_unit", lambda module, *x: module.gated_sum(*x), given, ["main", "other", "gate"])
    compared("gated_unit", lambda module, a, b: module.gated_sum(a, None, b), given[:2], ["main", "gate"])
