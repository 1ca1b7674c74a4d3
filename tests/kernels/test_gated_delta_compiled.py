# SPDX-License-Identifier: GPL-3.0-or-later
"""Gated DeltaNet's Triton kernels compiled for GPUs that are not there: instructions, spills, shared memory."""

import pytest

from kernels.ahead_of_time import SHARED_LIMITS, compile_for
from kernels.camera_gdn import fused as camera
from kernels.frame_gdn import products, read, scan, token_gradients

BUILDS = [build for module in (products, scan, read, token_gradients, camera) for build in module.builds()]
# Consumer Blackwell has the least shared memory, Hopper the largest tensor cores' tiles; `build.py bench --kernels`
# compiles every build for every generation.
CASES = [
    (build, capability) for build in BUILDS for capability in build.instructions if capability in (90, 120)
]
CASES = [(build, capability) for build, capability in CASES if "fp32" not in build.name]


@pytest.mark.parametrize(
    ("build", "capability"), CASES, ids=[f"{build.name}, sm_{capability}" for build, capability in CASES]
)
def test_compiles_to_its_instructions_without_spills(build, capability):
    code = compile_for(build, capability)
    assert code.stack_bytes == 0
    assert code.shared_bytes <= SHARED_LIMITS[capability]


def test_fp32_tokens_keep_their_digits_on_tensor_cores():
    """Three products of tf32 stand for one of fp32."""
    for capability in (90, 120):
        build = next(
            b for b in BUILDS if "Gram matrix, rotated, fp32" in b.name and capability in b.instructions
        )
        assert "tf32" in compile_for(build, capability).instruction
