# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch's fast scan against its definition."""

import pytest
import torch

from kernels import tokens
from kernels.camera_gdn import camera_gdn, naive
from tests.kernel_comparison import assert_close, slices

# batch, frames, tokens of a frame, heads, head width; and the frames cut into chunks
CASES = [
    ((2, 5, 7, 3, 24), slices(4, 5)),
    ((1, 1, 11, 2, 16), None),
    ((3, 7, 5, 2, 48), slices(1, 4, 7)),
    ((1, 4, 37, 3, 112), slices(2, 4)),
]


def problem(shape, dtype=torch.float32):
    """Queries, keys, values, beta and decay as a block makes them; rays of a camera that moves away; a state."""
    batch, frames, cells, heads, dim = shape
    generator = torch.Generator().manual_seed(3)

    def randn(*size):
        return torch.randn(*size, generator=generator)

    q, v = randn(*shape).relu(), randn(*shape)
    k = randn(*shape).relu() * (dim * cells) ** -0.5
    k[:, 0, 0, 0] = 0  # a key that ReLU took all of
    beta, decay = randn(batch, frames, cells, heads).sigmoid(), randn(batch, frames, heads).sigmoid()
    rotation = torch.linalg.qr(randn(batch, frames, cells, 3, 3))[0]
    offset = randn(batch, frames, cells, 3, 1) * torch.arange(frames).view(-1, 1, 1, 1)
    to_ray = torch.eye(4).repeat(batch, frames, cells, 1, 1)
    to_ray[..., :3, :] = torch.cat([rotation, offset], dim=-1)
    angle = randn(frames, cells, dim // 4)
    rays = to_ray, torch.linalg.inv(to_ray), torch.polar(torch.ones_like(angle), angle)
    return [x.to(dtype) for x in (q, k, v, beta)] + [decay], rays, 0.3 * randn(batch, heads, dim, dim)


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("portion_elements", [1, 1 << 20])
@pytest.mark.parametrize(("shape", "chunks"), CASES)
def test_matches_the_definition(
    shape, chunks, portion_elements, renormalize, nan_filled_buffers, monkeypatch
):
    monkeypatch.setattr(tokens, "_CPU_PORTION", portion_elements)
    tensors, rays, carried = problem(shape)
    before = [x.clone() for x in (*tensors, *rays, carried)]
    for cut in (None, chunks):
        for start in (None, carried):
            out, state = camera_gdn(*tensors, rays, cut, start, renormalize)
            expected, expected_state = naive.camera_gdn(*tensors, rays, cut, start, renormalize)
            assert_close("output", out, expected, 1e-5)
            assert_close("state", state, expected_state, 1e-5)
    assert all(torch.equal(x, was) for x, was in zip((*tensors, *rays, carried), before, strict=True))


def test_chunk_by_chunk_equals_one_call():
    shape, chunks = CASES[2]
    tensors, (to_ray, from_ray, rotary), _ = problem(shape)
    whole, _ = camera_gdn(*tensors, (to_ray, from_ray, rotary), chunks, None, False)
    state = None
    for chunk in chunks:
        rays = to_ray[:, chunk], from_ray[:, chunk], rotary[chunk]
        out, state = camera_gdn(*(x[:, chunk] for x in tensors), rays, None, state, False)
        assert_close(f"frames {chunk.start}..", out, whole[:, chunk], 1e-5)


def test_the_same_ray_everywhere_cancels_out_of_the_attention():
    (q, k, v, beta, decay), (to_ray, from_ray, rotary), _ = problem(CASES[0][0])
    still = torch.ones_like(rotary)
    rigid = to_ray[:1, :1, :1].expand_as(to_ray).clone()
    rigid[..., :3, 3] = 0  # a turn alone: no key becomes longer
    turned, _ = camera_gdn(q, k, v, beta, decay, (rigid, rigid.mT, still), None, None, False)
    unit = torch.eye(4).expand_as(to_ray)
    plain, _ = camera_gdn(q, k, v, beta, decay, (unit, unit, still), None, None, False)
    assert_close("output", turned, plain, 1e-5)


def test_bf16_inputs_are_encoded_and_scanned_in_fp32():
    tensors, rays, carried = problem(CASES[2][0], torch.bfloat16)
    out, state = camera_gdn(*tensors, rays, None, carried, True)
    assert out.dtype == torch.bfloat16
    expected, expected_state = naive.camera_gdn(*tensors, rays, None, carried, True)
    assert torch.equal(
        out, camera_gdn(*(x.float() for x in tensors), rays, None, carried, True)[0].bfloat16()
    )
    assert_close("output", out, expected, 4e-3)
    assert_close("state", state, expected_state, 1e-5)


@pytest.mark.parametrize("portion_elements", [1, 1 << 20])
@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize(("shape", "chunks"), CASES[:3])
def test_gradients_match_the_definition(shape, chunks, renormalize, portion_elements, monkeypatch):
    monkeypatch.setattr(tokens, "_CPU_PORTION", portion_elements)
    tensors, rays, carried = problem(shape)
    tensors[1] = tensors[1] + 0.01  # the length of a zero key has no gradient
    gradients = []
    for function in (camera_gdn, naive.camera_gdn):
        leaves = [tensor.clone().requires_grad_() for tensor in (*tensors, carried)]
        out, state = function(*leaves[:5], rays, chunks, leaves[5], renormalize)
        (out.sin().sum() + state.cos().sum()).backward()
        gradients.append([leaf.grad for leaf in leaves])
    for name, fast, plain in zip(["q", "k", "v", "beta", "decay", "state"], *gradients, strict=True):
        assert_close(f"gradient of {name}", fast, plain, 1e-4)
