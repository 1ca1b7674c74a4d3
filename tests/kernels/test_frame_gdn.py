# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast Gated DeltaNet scan against the plain recurrence."""

import pytest
import torch

from kernels import tokens
from kernels.frame_gdn import frame_gdn, naive, vectorized
from tests.kernel_comparison import assert_close, slices

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


def start_of(shape, seed=50):
    """A carried state, numerator and denominator."""
    batch, _, _, heads, dim = shape
    generator = torch.Generator().manual_seed(seed)
    numerator = 0.3 * torch.randn(batch, heads, dim, dim, generator=generator)
    return numerator, torch.rand(batch, heads, dim, 1, generator=generator)


# frames of SHAPES cut into chunks; None is one chunk
CHUNKS = [slices(4, 5), None, slices(1, 2), slices(4, 7, 10, 13), slices(2, 4)]


@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("portion_elements", [1, 1 << 20])
@pytest.mark.parametrize(("shape", "chunks"), list(zip(SHAPES, CHUNKS, strict=True)))
def test_matches_the_recurrence(shape, chunks, portion_elements, carried, nan_filled_buffers, monkeypatch):
    monkeypatch.setattr(tokens, "_CPU_PORTION", portion_elements)
    q, k, v, beta, decay, rotary = problem(shape)
    start = start_of(shape) if carried else None
    for cut in (None, chunks):
        out, state = frame_gdn(q, k, v, beta, decay, rotary, cut, start)
        plain, plain_state = naive.frame_gdn(q, k, v, beta, decay, rotary, cut, start)
        assert_close("output", out, plain, 1e-5)
        assert_close("state", state[0], plain_state[0], 1e-5)
        assert_close("normalizer", state[1], plain_state[1], 1e-5)


def test_chunk_by_chunk_equals_one_call_and_leaves_the_given_state_alone():
    shape = SHAPES[3]
    q, k, v, beta, decay, rotary = problem(shape)
    chunks = slices(4, 7, 10, 13)
    whole, _ = frame_gdn(q, k, v, beta, decay, rotary, chunks)
    state = None
    for chunk in chunks:
        part = [x[:, chunk] for x in (q, k, v, beta, decay)]
        given = None if state is None else [x.clone() for x in state]
        out, after = frame_gdn(*part, rotary[chunk], start=state)
        assert_close(f"frames {chunk.start}..", out, whole[:, chunk], 1e-6)
        if given is not None:
            assert all(torch.equal(a, b) for a, b in zip(state, given, strict=True))
        state = after


def test_slices_of_one_projection_are_read_in_place():
    q, k, v, beta, decay, rotary = problem(SHAPES[0])
    together = torch.cat([q, k, v], dim=3)
    q_view, k_view, v_view = together.chunk(3, dim=3)
    expected, _ = naive.frame_gdn(q, k, v, beta, decay, rotary)
    out, _ = frame_gdn(q_view, k_view, v_view, beta, decay, rotary)
    assert_close("output", out, expected, 1e-5)


def test_bf16_inputs_are_scanned_in_fp32():
    q, k, v, beta, decay, rotary = problem(SHAPES[3], torch.bfloat16)
    out, _ = frame_gdn(q, k, v, beta, decay, rotary)
    assert out.dtype == torch.bfloat16
    in_fp32, _ = vectorized.frame_gdn(*(x.float() for x in (q, k, v, beta)), decay, rotary)
    assert torch.equal(out, in_fp32.bfloat16())
    assert_close("output", out, naive.frame_gdn(q, k, v, beta, decay, rotary)[0], 4e-3)


def test_a_query_of_zeros_reads_zero():
    q, k, v, beta, decay, rotary = problem(SHAPES[0])
    q[:, 2, 3] = 0
    out, _ = frame_gdn(q, k, v, beta, decay, rotary)
    assert torch.equal(out[:, 2, 3], torch.zeros_like(out[:, 2, 3]))


@pytest.mark.parametrize("portion_elements", [1, 1 << 20])
@pytest.mark.parametrize(("shape", "chunks"), list(zip(SHAPES[:3], CHUNKS[:3], strict=True)))
def test_gradients_match_the_recurrence(shape, chunks, portion_elements, monkeypatch):
    monkeypatch.setattr(tokens, "_CPU_PORTION", portion_elements)
    *tensors, rotary = problem(shape)
    tensors[0] = tensors[0] + 0.1  # keeps the denominator away from zero
    gradients = []
    for function in (frame_gdn, naive.frame_gdn):
        leaves = [tensor.clone().requires_grad_() for tensor in (*tensors, *start_of(shape))]
        out, state = function(*leaves[:5], rotary, chunks, leaves[5:])
        (out.sin().sum() + sum(x.cos().sum() for x in state)).backward()
        gradients.append([leaf.grad for leaf in leaves])
    names = ["q", "k", "v", "beta", "decay", "state", "normalizer"]
    for name, fast, plain in zip(names, *gradients, strict=True):
        assert_close(f"gradient of {name}", fast, plain, 1e-4)
