# SPDX-License-Identifier: GPL-3.0-or-later
"""NVFP4 numbers, layouts and products in torch, against the definition."""

import pytest
import torch

from kernels import nvfp4
from kernels.nvfp4 import golden, naive, vectorized

SHAPES = [(1, 16), (3, 48), (37, 64), (2, 160)]


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative_error(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


def bytes_of(scales):
    return scales.view(torch.uint8)


def test_ties_go_to_the_even_code_and_large_numbers_saturate():
    ties = {0.25: 0, 0.75: 2, 1.25: 2, 1.75: 4, 2.5: 4, 3.5: 6, 5.0: 6, 6.0: 7}
    # With 2688 in the matrix its scale is 1, and so is that of a block with 6.
    x = torch.tensor([[*ties, *(-value for value in ties)], [2688.0] + 15 * [0.0]])
    codes = vectorized.unpack(vectorized.quantize(x).packed)[0].tolist()
    assert codes == [*ties.values(), *(code | 8 for code in ties.values())]
    assert [naive.e2m1_code(value) for value in (*ties, -0.1, 6.1, 1e9)] == [*ties.values(), 8, 7, 7]
    for below, above in ((0.2499, 0.2501), (2.4999, 2.5001)):
        assert naive.e2m1_code(above) == naive.e2m1_code(below) + 1


def test_the_golden_vector_has_its_bytes():
    quantized = nvfp4.quantize(golden.matrix())
    assert [row.numpy().tobytes() for row in quantized.packed] == [golden.PACKED] * 2
    assert tuple(map(tuple, bytes_of(vectorized.linear_scales(quantized)).tolist())) == golden.SCALES
    assert quantized.tensor_scale.view(torch.int32).item() == 0x3A430C31
    swapped = (quantized.packed[0] << 4 | quantized.packed[0] >> 4).numpy().tobytes()
    assert swapped.hex() == "fffeeeedddccba990122344556666777"
    assert nvfp4.dequantize(quantized)[0, -1].item() == pytest.approx(1.857143, abs=1e-6), "the clamp at 6"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_quantising_gives_the_bytes_of_the_definition(shape, dtype):
    x = (randn(*shape) * torch.exp2(3 * randn(shape[0], 1, seed=1))).to(dtype)
    codes, scales, tensor_scale = naive.quantize(x)
    got = nvfp4.quantize(x)
    assert torch.equal(vectorized.unpack(got.packed), codes)
    assert torch.equal(bytes_of(got.scales), naive.swizzle(scales))
    assert got.tensor_scale == tensor_scale
    assert torch.equal(nvfp4.dequantize(got), naive.dequantize(codes, scales, tensor_scale))


def test_the_swizzled_layout_has_its_places():
    places = [(0, 0), (1, 0), (32, 0), (127, 3), (0, 4), (128, 0), (200, 7)]
    expected = [0, 16, 4, 511, 512, 17920, 18571]
    assert [naive.swizzled_place(row, column, 140) for row, column in places] == expected
    scales = (torch.arange(256 * 140) % 251 + 1).to(torch.uint8).view(256, 140)
    flat = vectorized.swizzle(scales)
    assert [flat[place] for place in expected] == [scales[place] for place in places]
    assert vectorized.swizzled_size(2640, 140) == 376_320


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (37, 3), (130, 6), (128, 4)])
def test_swizzling_pads_with_zeros_and_comes_back(rows, columns):
    scales = torch.randint(1, 127, (rows, columns), dtype=torch.uint8)
    flat = vectorized.swizzle(scales)
    assert torch.equal(flat, naive.swizzle(scales))
    assert len(flat) == vectorized.swizzled_size(rows, columns)
    assert torch.equal(vectorized.unswizzle(flat, rows, columns), scales)


def test_packing_comes_back_with_the_first_number_in_the_low_bits():
    codes = torch.randint(0, 16, (5, 32), dtype=torch.uint8)
    assert torch.equal(vectorized.pack(codes), naive.pack(codes))
    assert torch.equal(vectorized.unpack(naive.pack(codes)), codes)
    assert naive.pack(torch.tensor([[1, 2]], dtype=torch.uint8)).item() == 0x21


def test_element_times_block_scale_is_exact_in_bf16():
    products = torch.outer(torch.tensor(naive.E2M1), torch.tensor(naive.E4M3))
    assert products.shape == (8, 127)
    assert torch.equal(products.bfloat16().float(), products)


def test_zeros_and_extremes():
    nothing = nvfp4.quantize(torch.zeros(3, 32))
    assert nothing.tensor_scale == 1 and not nothing.packed.any() and not bytes_of(nothing.scales).any()
    x = randn(2, 48)
    x[0, 16:32] = 0
    assert not nvfp4.dequantize(nvfp4.quantize(x))[0, 16:32].any(), "a block of zeros"
    x = torch.full((1, 16), 1.0)
    x[0, 3] = 448 * 6
    at_the_edge = nvfp4.quantize(x)
    assert at_the_edge.tensor_scale == 1 and nvfp4.dequantize(at_the_edge)[0, 3] == 448 * 6
    tiny = nvfp4.dequantize(nvfp4.quantize(torch.full((1, 16), 1e-42)))
    assert torch.isfinite(tiny).all()


def test_padding_rows_do_not_widen_the_scale():
    x, valid = randn(5, 32), torch.tensor([True, True, False, True, False])
    padded = torch.where(valid[:, None], x, 1000.0)
    quantized = nvfp4.quantize(padded, valid)
    assert quantized.tensor_scale == naive.quantize(padded, valid)[2] == naive.quantize(x[valid])[2]
    got = nvfp4.dequantize(quantized)
    assert torch.equal(got[valid], nvfp4.dequantize(nvfp4.quantize(x[valid])))
    assert torch.isfinite(got).all(), "the others saturate"


def test_errors_are_those_of_the_format():
    x, w = randn(64, 2240), 0.02 * randn(96, 2240, seed=1)
    for tensor in (x, w):
        assert 0.08 < relative_error(nvfp4.dequantize(nvfp4.quantize(tensor)), tensor) < 0.12
    expected, weight = x @ w.T, nvfp4.quantize(w)
    assert 0.12 < relative_error(nvfp4.linear(x, weight, way="native"), expected) < 0.15
    assert 0.085 < relative_error(nvfp4.linear(x, weight, way="weight only"), expected) < 0.105
    swapped = weight._replace(packed=weight.packed << 4 | weight.packed >> 4)
    assert relative_error(nvfp4.linear(x, swapped, way="native"), expected) > 1


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "uniform", "one large number"])
def test_choosing_six_or_four_is_never_worse(kind):
    x = 0.02 * randn(32, 320)
    if kind == "laplace":
        x = x.sign() * x.abs().square()
    if kind == "uniform":
        x = torch.rand(32, 320, generator=torch.Generator().manual_seed(3)) - 0.5
    if kind == "one large number":
        x[3, 7] = 40 * x.abs().max()
    plain, chosen = nvfp4.dequantize(nvfp4.quantize(x)), nvfp4.dequantize(nvfp4.quantize_weight(x))
    assert relative_error(chosen, x) < relative_error(plain, x)
    scale = x.abs().max() / (6 * 256)
    codes, scales = vectorized._codes(x, scale, 6.0)
    six = vectorized._squared_errors(x, codes, scales, scale)
    ours = (chosen - x).square().unflatten(1, (-1, 16)).sum(2)
    assert (ours <= six * (1 + 1e-5)).all(), "block by block"


@pytest.mark.parametrize(("m", "n", "k"), [(1, 16, 48), (3, 48, 16), (37, 144, 64)])
def test_products_are_those_of_the_definition_however_the_weight_is_cut(m, n, k, monkeypatch):
    x, w, bias = randn(m, k), randn(n, k, seed=1), randn(n, seed=2)
    a, weight = naive.quantize(x), nvfp4.quantize(w)
    b = vectorized.unpack(weight.packed), bytes_of(vectorized.linear_scales(weight)), weight.tensor_scale
    for elements in (1, 1 << 21):
        monkeypatch.setattr(vectorized, "_ELEMENTS_AT_ONCE", elements)
        assert relative_error(nvfp4.linear(x, weight, bias, "emulated"), naive.matmul(a, b, bias)) < 1e-6
        expected = x @ naive.dequantize(*b).T + bias
        assert relative_error(nvfp4.linear(x, weight, bias, "weight only"), expected) < 1e-6
        again = nvfp4.quantize_weight(w)
        assert torch.equal(again.packed, nvfp4.quantize_weight(w).packed)


def test_linears_keep_leading_axes_and_dtype():
    x, w = randn(2, 3, 5, 48).bfloat16(), nvfp4.quantize_weight(randn(32, 48, seed=1))
    for way in ("weight only", "native"):
        out = nvfp4.linear(x, w, way=way)
        assert out.shape == (2, 3, 5, 32) and out.dtype == torch.bfloat16
    hidden = randn(2, 3, 96)
    value, gate = hidden.chunk(2, dim=-1)
    expected = nvfp4.linear(value * torch.nn.functional.silu(gate), w, way="native")
    assert torch.equal(nvfp4.gated_linear(hidden, w, way="native"), expected)


def test_a_cpu_says_what_it_does():
    way, why = nvfp4.path("cpu")
    assert way == "weight only" and "CPU" in why


def test_the_test_of_a_device_finds_what_is_wrong():
    cpu = torch.device("cpu")

    def product(a, b):
        return vectorized.matmul(a, b)

    def of_the_wrong_order(x):
        right = nvfp4.quantize(x)
        return right._replace(packed=right.packed << 4 | right.packed >> 4)

    def with_linear_scales(a, b):
        return vectorized.matmul(a, b._replace(scales=b.scales.roll(16)))

    def broken(a, b):
        raise RuntimeError("no kernel image is\navailable")

    assert golden.why_wrong(cpu, nvfp4.quantize, product) == ""
    assert golden.why_wrong(cpu, of_the_wrong_order, product) == "wrong numbers when quantising"
    assert "products that are off by" in golden.why_wrong(cpu, nvfp4.quantize, with_linear_scales)
    assert golden.why_wrong(cpu, nvfp4.quantize, broken) == "an error (no kernel image is available)"
