# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1's pointwise kernels in Triton's interpreter, against the definitions and their gradients."""

from importlib import import_module

import pytest
import torch

from kernels.qk_prologue import fused, naive
from tests.kernel_comparison import assert_close, slices


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def compared(operator, call, tensors, names):
    """Output and gradients of the kernel beside those of the definition."""
    found = []
    for module in (import_module(f"kernels.{operator}.{name}") for name in ("fused", "naive")):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        out = call(module, *leaves)
        out.sin().sum().backward()
        found.append([out, *(leaf.grad for leaf in leaves)])
    for name, fast, plain in zip(["output", *(f"gradient of {n}" for n in names)], *found, strict=True):
        assert_close(name, fast, plain, 1e-5)


@pytest.mark.parametrize("crosses", [True, False])
@pytest.mark.parametrize("has_tail", [True, False])
@pytest.mark.parametrize(
    ("batch", "frames", "cells", "channels", "chunks"),
    [(1, 1, 3, 96, None), (2, 3, 2, 48, slices(1, 3)), (1, 4, 1, 336, None), (1, 7, 2, 96, slices(4, 7))],
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


def test_a_slice_of_a_projection_in_bf16_is_read_in_place():
    together = randn(1, 3, 2, 3 * 48).bfloat16()
    x = together.chunk(3, dim=-1)[1]
    weight = randn(48, seed=1).bfloat16()
    out = fused.prologue(x, weight, 1e-5, rectify=True)
    assert out.dtype == torch.bfloat16
    assert_close("output", out, naive.prologue(x, weight, 1e-5, rectify=True), 8e-3)


@pytest.mark.parametrize("shape", [(1, 1, 3, 48), (2, 3, 5, 112)])
def test_modulation(shape):
    rows = randn(shape[0], shape[1], 3, shape[3], seed=1).unsqueeze(3).unbind(2)

    def norm(module, x, scale, shift):
        return module.modulated(x, scale, shift)

    def residual(module, x, gate, *others):
        return module.gated_residual(x, gate, *others)

    compared("modulation", norm, [3 * randn(*shape) + 1, rows[0], rows[1]], ["x", "scale", "shift"])
    changes = [randn(*shape, seed=seed) for seed in (2, 3)]
    compared("modulation", residual, [randn(*shape), rows[2], *changes], ["x", "gate", "change", "added"])
    compared("modulation", residual, [randn(*shape), rows[2], changes[0]], ["x", "gate", "change"])


def test_gates():
    compared("gated_unit", lambda module, x: module.gated(x), [3 * randn(2, 3, 5, 96)], ["hidden"])
    given = [randn(2, 3, 48, seed=seed) for seed in range(3)]
    compared("gated_unit", lambda module, *x: module.gated_sum(*x), given, ["main", "other", "gate"])
    compared("gated_unit", lambda module, a, b: module.gated_sum(a, None, b), given[:2], ["main", "gate"])
