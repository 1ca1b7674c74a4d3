# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch in torch against its definition."""

import pytest
import torch

from kernels.camera_gdn import camera_gdn, naive, vectorized
from kernels.frame_gdn import vectorized as portioned
from tests.kernels.test_frame_gdn import CHUNKS, SHAPES, assert_close, problem, slices, start_of
from tests.kernels.test_frame_gdn import nan_filled_buffers as nan_filled_buffers

NAMES = ("q", "k", "v", "beta", "decay", "state")
# Widths that the ray transform divides: two halves of quadruples.
CASES = [(shape, chunks) for shape, chunks in zip(SHAPES, CHUNKS, strict=True) if shape[-1] % 8 == 0]


def rays_of(shape, distance=3.0, seed=60):
    """Rigid ray matrices whose centres lie so far away that keys are lengthened, and a rotary table."""
    batch, frames, cells, _, dim = shape
    generator = torch.Generator().manual_seed(seed)
    to_ray = torch.eye(4).repeat(batch, frames, cells, 1, 1)
    to_ray[..., :3, :3] = torch.linalg.qr(torch.randn(batch, frames, cells, 3, 3, generator=generator))[0]
    to_ray[..., :3, 3] = distance * torch.randn(batch, frames, cells, 3, generator=generator)
    angle = torch.randn(frames, cells, dim // 4, generator=generator)
    return to_ray, torch.linalg.inv(to_ray), torch.polar(torch.ones_like(angle), angle)


def compared(modules, shape, chunks, carried, renormalize, tolerances=(1e-5, 1e-4)):
    """Output, last state and gradients of two implementations."""
    *tensors, _ = problem(shape)
    # Short and nowhere zero: the shortening and the divisor have kinks where rays leave lengths as they were.
    tensors[0], tensors[1] = tensors[0] + 0.1, 0.1 * tensors[1] + 0.002
    tensors += [start_of(shape)[1]] if carried else []
    found = []
    for module in modules:
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        start = leaves[5] if carried else None
        out, state = module.camera_gdn(*leaves[:5], rays_of(shape), chunks, start, renormalize)
        (out.sin().sum() + state.cos().sum()).backward()
        found.append([out, state, *(leaf.grad for leaf in leaves)])
    names = ["output", "last state", *(f"gradient of {name}" for name in NAMES)]
    for name, fast, plain in zip(names, *found, strict=False):
        if plain.any():
            assert_close(name, fast, plain, tolerances["gradient" in name])
        else:
            assert fast is None or not fast.any(), name


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize(("shape", "chunks"), CASES)
def test_matches_the_definition(shape, chunks, renormalize, nan_filled_buffers, monkeypatch):
    for portion, carried in ((1, True), (1 << 20, False)):
        monkeypatch.setattr(portioned, "_CPU_PORTION", portion)
        compared((vectorized, naive), shape, chunks, carried, renormalize)


def test_without_gradients_nothing_that_was_given_is_written_to():
    shape = SHAPES[0]
    *tensors, _ = problem(shape)
    given = [*tensors, *rays_of(shape), start_of(shape)[1]]
    before = [tensor.clone() for tensor in given]
    with torch.no_grad():
        out, state = camera_gdn(*given[:5], given[5:8], None, given[8], True)
    plain, plain_state = naive.camera_gdn(*given[:5], given[5:8], None, given[8], True)
    assert_close("output", out, plain, 1e-5)
    assert_close("last state", state, plain_state, 1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))


def test_chunk_by_chunk_equals_one_call():
    shape = SHAPES[3]
    *tensors, _ = problem(shape)
    rays, chunks, state = rays_of(shape), slices(4, 7, 10, 13), None
    whole, _ = camera_gdn(*tensors, rays, chunks)
    for chunk in chunks:
        own = rays[0][:, chunk], rays[1][:, chunk], rays[2][chunk]
        out, state = camera_gdn(*(x[:, chunk] for x in tensors), own, start=state)
        assert_close(f"frames {chunk.start}..", out, whole[:, chunk], 1e-6)


def test_bf16_is_computed_in_fp32():
    shape = SHAPES[3]
    q, k, v, beta, decay, _ = problem(shape, torch.bfloat16)
    out, _ = camera_gdn(q, k, v, beta, decay, rays_of(shape))
    assert out.dtype == torch.bfloat16
    assert_close("output", out, naive.camera_gdn(q, k, v, beta, decay, rays_of(shape))[0], 4e-3)
