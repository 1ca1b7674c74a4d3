# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera branch's Triton kernels, interpreted, against the definition and its gradients."""

import pytest
import torch

from kernels.camera_gdn import fused, naive
from tests.kernel_comparison import assert_close, slices
from tests.kernels.test_camera_gdn import problem

CASES = [
    ((1, 1, 11, 2, 16), None, False, True),
    ((2, 3, 7, 2, 48), slices(1, 3), True, False),
    ((1, 4, 19, 1, 112), slices(2, 4), True, True),
    ((1, 7, 5, 1, 48), slices(4, 7), False, False),
]


@pytest.mark.parametrize(("shape", "chunks", "carried", "renormalize"), CASES)
def test_output_state_and_gradients_match_the_definition(
    shape, chunks, carried, renormalize, nan_filled_copies
):
    tensors, rays, start = problem(shape)
    tensors[1] = tensors[1] + 0.01  # the length of a zero key has no gradient
    found = []
    for module in (fused, naive):
        leaves = [tensor.clone().requires_grad_() for tensor in (*tensors, *([start] if carried else []))]
        out, state = module.camera_gdn(*leaves[:5], rays, chunks, leaves[5] if carried else None, renormalize)
        (out.sin().sum() + state.cos().sum()).backward()
        found.append([out, state, *(leaf.grad for leaf in leaves)])
    names = ["output", "last state"]
    names += [f"gradient of {name}" for name in ("q", "k", "v", "beta", "decay", "state")]
    for name, fast, plain in zip(names, *found, strict=False):
        assert_close(name, fast, plain, 1e-4 if "gradient" in name else 1e-5)


def test_bf16_slices_of_one_projection_and_a_key_of_zeros(nan_filled_copies):
    (q, k, v, beta, decay), rays, start = problem((1, 3, 7, 2, 48), torch.bfloat16)
    views = torch.cat([q, k, v], dim=3).chunk(3, dim=3)
    out, state = fused.camera_gdn(*views, beta, decay, rays, None, start)
    plain, plain_state = naive.camera_gdn(q, k, v, beta, decay, rays, None, start)
    assert out.dtype == torch.bfloat16 and state.dtype == torch.float32
    assert_close("output", out, plain, 2e-2)  # the interpreter cuts bf16 off, it does not round
    assert_close("last state", state, plain_state, 2e-2)
