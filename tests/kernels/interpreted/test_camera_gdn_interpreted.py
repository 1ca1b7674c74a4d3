# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch's Triton kernels, interpreted, against the definition and its gradients."""

import pytest
import torch

from kernels.camera_gdn import fused, naive
from tests.kernels.test_camera_gdn import compared, rays_of
from tests.kernels.test_frame_gdn import assert_close, problem, slices


@pytest.fixture(autouse=True)
def nan_filled_copies(monkeypatch):
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: empty_like(*a, **k).fill_(torch.nan))


@pytest.mark.parametrize(
    ("shape", "chunks", "carried", "renormalize"),
    [
        ((1, 1, 11, 2, 16), None, False, True),
        ((2, 3, 7, 2, 48), slices(1, 3), True, False),
        ((1, 4, 19, 1, 112), slices(2, 4), True, True),
        ((1, 7, 5, 1, 48), slices(4, 7), False, False),
    ],
)
def test_output_state_and_gradients_match_the_definition(shape, chunks, carried, renormalize):
    compared((fused, naive), shape, chunks, carried, renormalize)


def test_bf16_slices_of_one_projection():
    shape = (1, 3, 7, 2, 48)
    q, k, v, beta, decay, _ = problem(shape, torch.bfloat16)
    views = torch.cat([q, k, v], dim=3).chunk(3, dim=3)
    out, state = fused.camera_gdn(*views, beta, decay, rays_of(shape))
    plain, plain_state = naive.camera_gdn(q, k, v, beta, decay, rays_of(shape))
    assert out.dtype == torch.bfloat16 and state.dtype == torch.float32
    assert_close("output", out, plain, 2e-2)  # the interpreter cuts bf16 off, it does not round
    assert_close("last state", state, plain_state, 2e-2)
