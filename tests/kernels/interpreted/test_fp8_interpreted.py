# SPDX-License-Identifier: GPL-3.0-or-later
"""FP8 kernels in Triton's interpreter, against the definition."""

import pytest
import torch

from kernels.fp8 import fused, naive, vectorized


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_close(what, got, expected, tolerance):
    error = ((got.double() - expected.double()).norm() / expected.double().norm()).item()
    assert error <= tolerance, f"{what} differs by {error:.2e} of its norm"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("m", "k"), [(1, 48), (3, 128), (37, 192)])
def test_quantising_gives_the_numbers_of_the_definition(m, k, dtype):
    x = (randn(m, k) * torch.exp2(3 * randn(m, 1, seed=1))).to(dtype)
    x[0, :16] = 0
    numbers, scales = naive.quantize(x, block_rows=1)
    got = fused.quantize(x)
    assert torch.equal(got.numbers.float(), numbers) and torch.equal(got.scales, scales)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 48), (3, 160, 192), (37, 48, 320)])
def test_products_are_those_of_the_definition(m, n, k):
    x, w, bias = randn(m, k), randn(n, k, seed=1), randn(n, seed=2)
    weight = vectorized.quantize_weight(w)
    plain = naive.matmul(naive.quantize(x, 1), naive.quantize(w, 128), bias)
    got = fused.matmul(vectorized.quantize(x), weight, bias, torch.float32)
    assert_close("native", got, plain, 1e-6)
    expected = x @ naive.dequantize(*naive.quantize(w, 128), 128).T
    assert_close("weight only", fused.weight_only_matmul(x, weight, None), expected, 1e-6)
    in_bf16 = fused.weight_only_matmul(x.bfloat16(), weight, None)
    assert in_bf16.dtype == torch.bfloat16
    assert_close("weight only, bf16", in_bf16, expected, 8e-3)
