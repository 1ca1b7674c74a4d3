# SPDX-License-Identifier: GPL-3.0-or-later
"""Block-scaled FP8 in torch, against the definition."""

import pytest
import torch

from kernels import fp8
from kernels.fp8 import naive, vectorized


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative_error(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


# 192 and 320 end in half a block, as the released 2240 does.
@pytest.mark.parametrize(("n", "k"), [(16, 48), (160, 192), (128, 320)])
def test_quantising_gives_the_numbers_of_the_definition(n, k, monkeypatch):
    x = randn(n, k) * torch.exp2(3 * randn(n, 1, seed=1))
    numbers, scales = naive.quantize(x, block_rows=1)
    got = fp8.quantize(x)
    assert torch.equal(got.numbers.float(), numbers) and torch.equal(got.scales, scales)
    numbers, scales = naive.quantize(x, block_rows=128)
    for elements in (1, 1 << 22):
        monkeypatch.setattr(vectorized, "_ELEMENTS_AT_ONCE", elements)
        got = fp8.quantize_weight(x)
        assert torch.equal(got.numbers.float(), numbers) and torch.equal(got.scales, scales)
        assert torch.equal(fp8.dequantize_weight(got), naive.dequantize(numbers, scales, 128))


@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 48), (3, 160, 192), (37, 144, 320)])
def test_products_are_those_of_the_definition(m, n, k, monkeypatch):
    x, w, bias = randn(m, k), randn(n, k, seed=1), randn(n, seed=2)
    expected = naive.matmul(naive.quantize(x, 1), naive.quantize(w, 128), bias)
    weight = fp8.quantize_weight(w)
    for elements in (1, 1 << 22):
        monkeypatch.setattr(vectorized, "_ELEMENTS_AT_ONCE", elements)
        assert relative_error(fp8.linear(x, weight, bias, "native"), expected) < 1e-6
        plain = x @ fp8.dequantize_weight(weight).T + bias
        assert relative_error(fp8.linear(x, weight, bias), plain) < 1e-6


def test_errors_are_those_of_the_format():
    x, w = randn(64, 2240), 0.02 * randn(96, 2240, seed=1)
    weight = fp8.quantize_weight(w)
    assert 0.02 < relative_error(fp8.dequantize_weight(weight), w) < 0.03
    assert 0.03 < relative_error(fp8.linear(x, weight, way="native"), x @ w.T) < 0.045
    assert 0.02 < relative_error(fp8.linear(x, weight), x @ w.T) < 0.03


def test_zeros_stay_zeros_and_large_numbers_no_nan():
    x = torch.zeros(2, 160)
    x[0, 130], x[1, 3] = 1e30, 1e-30
    back = fp8.quantize(x)
    assert torch.isfinite(back.numbers.float()).all() and back.scales[0, 0] == 1
    assert relative_error(back.numbers.float()[0, 130] * back.scales[0, 1], x[0, 130]) < 1e-6
    assert torch.equal(fp8.dequantize_weight(fp8.quantize_weight(torch.zeros(16, 48))), torch.zeros(16, 48))


def test_linears_keep_leading_axes_and_dtype_and_a_cpu_says_what_it_does():
    out = fp8.linear(randn(2, 3, 48).bfloat16(), fp8.quantize_weight(randn(32, 48)), way="native")
    assert out.shape == (2, 3, 32) and out.dtype == torch.bfloat16
    assert fp8.path("cpu")[0] == "weight only"
