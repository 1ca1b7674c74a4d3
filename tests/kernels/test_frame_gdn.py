# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast Gated DeltaNet scan against the plain recurrence."""

import pytest
import torch

from kernels.frame_gdn import camera_gdn, frame_gdn, naive, vectorized

# batch, frames, tokens of a frame, heads, head width
SHAPES = [(2, 5, 7, 3, 24), (1, 1, 11, 2, 16), (1, 2, 1, 1, 8), (3, 13, 6, 5, 32), (1, 4, 37, 3, 112)]


def problem(shape, dtype=torch.float32, seed=0):
    batch, frames, cells, heads, dim = shape
    generator = torch.Generator().manual_seed(seed)

    def randn(*size):
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    q = randn(*shape).relu()
    k = randn(*shape).relu() * (dim * cells) ** -0.5
    v = randn(*shape)
    beta = randn(batch, frames, cells, heads).sigmoid()
    decay = randn(batch, frames, heads).sigmoid()
    angle = randn(frames, cells, dim // 2)
    rotary = torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
    return q.to(dtype), k.to(dtype), v.to(dtype), beta.to(dtype), decay.float(), rotary


@pytest.fixture
def nan_filled_buffers(monkeypatch):
    """Whatever is allocated and not written shows up as NaN."""
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: empty_like(*a, **k).fill_(torch.nan))


def assert_close(name: str, actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    error = ((actual.double() - expected.double()).norm() / expected.double().norm()).item()
    assert error <= tolerance, f"{name} differs by {error:.2e} of its norm"


@pytest.mark.parametrize("chunk_elements", [1, 1 << 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_the_recurrence(shape, chunk_elements, nan_filled_buffers, monkeypatch):
    monkeypatch.setattr(vectorized, "_CPU_CHUNK", chunk_elements)
    q, k, v, beta, decay, rotary = problem(shape)
    assert_close(
        "main", frame_gdn(q, k, v, beta, decay, rotary), naive.frame_gdn(q, k, v, beta, decay, rotary), 1e-5
    )
    assert_close("camera", camera_gdn(q, k, v, beta, decay), naive.camera_gdn(q, k, v, beta, decay), 1e-5)


def test_slices_of_one_projection_are_read_in_place():
    q, k, v, beta, decay, rotary = problem(SHAPES[0])
    together = torch.cat([q, k, v], dim=3)
    q_view, k_view, v_view = together.chunk(3, dim=3)
    expected = naive.frame_gdn(q, k, v, beta, decay, rotary)
    assert_close("main", frame_gdn(q_view, k_view, v_view, beta, decay, rotary), expected, 1e-5)


def test_bf16_inputs_are_scanned_in_fp32():
    q, k, v, beta, decay, rotary = problem(SHAPES[3], torch.bfloat16)
    out = frame_gdn(q, k, v, beta, decay, rotary)
    assert out.dtype == torch.bfloat16
    assert torch.equal(
        out, vectorized.frame_gdn(*(x.float() for x in (q, k, v, beta)), decay, rotary).bfloat16()
    )
    assert_close("main", out, naive.frame_gdn(q, k, v, beta, decay, rotary), 4e-3)


def test_a_query_of_zeros_reads_zero():
    q, k, v, beta, decay, rotary = problem(SHAPES[0])
    q[:, 2, 3] = 0
    out = frame_gdn(q, k, v, beta, decay, rotary)
    assert torch.equal(out[:, 2, 3], torch.zeros_like(out[:, 2, 3]))


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_gradients_match_the_recurrence(shape):
    *tensors, rotary = problem(shape)
    names = ["q", "k", "v", "beta", "decay"]
    tensors[0] = tensors[0] + 0.1  # keeps the denominator away from zero
    for branch, extra in (("frame_gdn", (rotary,)), ("camera_gdn", ())):
        gradients = []
        for module in (vectorized, naive):
            leaves = [tensor.clone().requires_grad_() for tensor in tensors]
            getattr(module, branch)(*leaves, *extra).sin().sum().backward()
            gradients.append([leaf.grad for leaf in leaves])
        for name, fast, plain in zip(names, *gradients, strict=True):
            if plain.norm() > 0:
                assert_close(f"{branch} gradient of {name}", fast, plain, 1e-4)
