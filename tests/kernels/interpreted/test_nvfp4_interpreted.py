# SPDX-License-Identifier: GPL-3.0-or-later
"""NVFP4 kernels in Triton's interpreter, against the definition and, byte by byte, against torch."""

from functools import partial

import pytest
import torch

from kernels.nvfp4 import _tested_product, fused, fused_matmul, golden, naive, vectorized

SHAPES = [(1, 48), (3, 64), (37, 144), (130, 80)]


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_same(got, expected):
    assert torch.equal(got.packed, expected.packed), "numbers"
    assert torch.equal(got.scales.view(torch.uint8), expected.scales.view(torch.uint8)), "scales, padding too"
    assert torch.equal(got.tensor_scale, expected.tensor_scale), "tensor scale"


def assert_close(what, got, expected, tolerance):
    error = ((got.double() - expected.double()).norm() / expected.double().norm()).item()
    assert error <= tolerance, f"{what} differs by {error:.2e} of its norm"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_quantising_gives_the_bytes_of_the_definition(shape, dtype):
    x = (randn(*shape) * torch.exp2(3 * randn(shape[0], 1, seed=1))).to(dtype)
    got = fused.quantize(x)
    codes, scales, tensor_scale = naive.quantize(x)
    assert torch.equal(got.packed, naive.pack(codes))
    assert torch.equal(got.scales.view(torch.uint8), naive.swizzle(scales))
    assert got.tensor_scale == tensor_scale


@pytest.mark.parametrize("way", ["native", "emulated", "weight only"])
def test_the_golden_vector_and_the_product_behind_it_pass(way):
    assert golden.why_wrong(torch.device("cpu"), fused.quantize, partial(_tested_product, way)) == ""


def test_zeros_padding_rows_and_rows_that_lie_apart():
    x = randn(37, 96)
    x[3, 16:32] = 0
    assert_same(fused.quantize(torch.zeros(3, 32)), vectorized.quantize(torch.zeros(3, 32)))
    assert_same(fused.quantize(x[:, 32:80]), vectorized.quantize(x[:, 32:80]))
    valid = torch.arange(37) % 3 > 0
    x[~valid] *= 100
    assert_same(fused.quantize(x, valid), vectorized.quantize(x, valid))


@pytest.mark.parametrize("rows", [1, 37])
def test_a_gated_layer_is_rounded_as_its_product(rows):
    hidden = randn(rows, 2 * 48)
    got, expected = fused.quantize_gated(hidden), vectorized.quantize(vectorized.gated(hidden))
    # The last bit of an exponential may move a number across a bound.
    assert_close("gated", vectorized.dequantize(got), vectorized.dequantize(expected), 0.02)
    assert (got.packed != expected.packed).float().mean() < 0.02


@pytest.mark.parametrize("way", ["native", "emulated"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 48), (3, 160, 64), (37, 48, 144), (130, 144, 80)])
def test_products_are_those_of_the_definition(m, n, k, way):
    x, w, bias = randn(m, k), randn(n, k, seed=1), randn(n, seed=2)
    plain = naive.matmul(naive.quantize(x), naive.quantize(w), bias)
    a, b = vectorized.quantize(x), vectorized.quantize(w)
    assert_close(way, fused_matmul.matmul(a, b, bias, torch.float32, way), plain, 1e-6)
    without = naive.matmul(naive.quantize(x), naive.quantize(w))
    assert_close(way, fused_matmul.matmul(a, b, None, torch.bfloat16, way), without, 4e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 48), (37, 160, 144)])
def test_weight_only_products_are_those_of_the_definition(m, n, k, dtype):
    x, w, bias = randn(m, k).to(dtype), randn(n, k, seed=1), randn(n, seed=2)
    weight = vectorized.quantize(w)
    expected = x.float() @ naive.dequantize(*naive.quantize(w)).T + bias
    got = fused_matmul.weight_only_matmul(x, weight, bias)
    assert got.dtype == dtype
    assert_close("weight only", got, expected, 1e-6 if dtype == torch.float32 else 4e-3)
