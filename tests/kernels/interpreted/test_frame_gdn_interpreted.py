# SPDX-License-Identifier: GPL-3.0-or-later
"""The Triton kernels of the Gated DeltaNet, interpreted, against the plain recurrence and its gradients."""

import pytest
import torch

from kernels.frame_gdn import fused, naive
from tests.kernel_comparison import assert_close, slices
from tests.kernels.test_frame_gdn import problem, start_of

# batch, frames, tokens of a frame, heads, head width; where chunks end; whether a state is carried in
CASES = [
    ((1, 1, 11, 2, 16), None, False),
    ((2, 3, 7, 2, 48), slices(1, 3), True),
    ((1, 4, 19, 1, 112), slices(2, 4), True),
    ((1, 7, 37, 1, 48), slices(4, 7), False),
]


@pytest.mark.parametrize(("shape", "chunks", "carried"), CASES)
def test_output_state_and_gradients_match_the_recurrence(shape, chunks, carried, nan_filled_copies):
    *tensors, rotary = problem(shape)
    tensors[0] = tensors[0] + 0.1  # keeps the denominator away from zero
    tensors += start_of(shape) if carried else ()
    found = []
    for module in (fused, naive):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        out, state = module.frame_gdn(*leaves[:5], rotary, chunks, tuple(leaves[5:]) or None)
        (out.sin().sum() + sum(x.cos().sum() for x in state)).backward()
        found.append([out, *state, *(leaf.grad for leaf in leaves)])
    names = ["output", "state", "normaliser"]
    names += [f"gradient of {name}" for name in ("q", "k", "v", "beta", "decay", "state", "normaliser")]
    for name, fast, plain in zip(names, *found, strict=False):
        assert_close(name, fast, plain, 1e-4 if "gradient" in name else 1e-5)


def test_slices_of_one_projection_are_read_in_place():
    q, k, v, beta, decay, rotary = problem(CASES[1][0])
    q_view, k_view, v_view = torch.cat([q, k, v], dim=3).chunk(3, dim=3)
    out, _ = fused.frame_gdn(q_view, k_view, v_view, beta, decay, rotary)
    assert_close("main", out, naive.frame_gdn(q, k, v, beta, decay, rotary)[0], 1e-5)


def test_bf16_tokens_are_scanned_in_fp32():
    q, k, v, beta, decay, rotary = problem(CASES[1][0], torch.bfloat16)
    out, state = fused.frame_gdn(q, k, v, beta, decay, rotary)
    plain, plain_state = naive.frame_gdn(q, k, v, beta, decay, rotary)
    assert out.dtype == torch.bfloat16 and state[0].dtype == torch.float32
    assert_close("main", out, plain, 2e-2)  # the interpreter cuts bf16 off, it does not round
    assert_close("main state", state[0], plain_state[0], 2e-2)


def test_widths_and_types_that_no_kernel_is_made_for_are_refused():
    q, k, v, beta, decay, rotary = problem((1, 2, 3, 2, 24))
    with pytest.raises(ValueError, match="16, 32, ... or 128 channels, not 24"):
        fused.frame_gdn(q, k, v, beta, decay, rotary)
    q, k, v, beta, decay, rotary = problem((1, 2, 3, 2, 16))
    with pytest.raises(ValueError, match="bfloat16 and float32"):
        fused.frame_gdn(q.bfloat16(), k, v, beta, decay, rotary)
