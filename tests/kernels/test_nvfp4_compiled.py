# SPDX-License-Identifier: GPL-3.0-or-later
"""NVFP4 and FP8 kernels compiled for GPUs that are not there: instructions, spills, shared memory."""

import pytest

from kernels.ahead_of_time import SHARED_LIMITS, compile_for
from kernels.fp8 import fused as fp8
from kernels.nvfp4 import fused, fused_matmul

BUILDS = [*fused.builds(), *fused_matmul.builds(), *fp8.builds()]
CASES = [(build, capability) for build in BUILDS for capability in build.instructions]


@pytest.mark.parametrize(
    ("build", "capability"), CASES, ids=[f"{build.name}, sm_{capability}" for build, capability in CASES]
)
def test_compiles_to_its_instructions_without_spills(build, capability):
    code = compile_for(build, capability)
    assert code.stack_bytes == 0
    assert code.shared_bytes <= SHARED_LIMITS[capability]


def test_fp4_tensor_cores_are_used_where_they_are():
    native = next(build for build in BUILDS if "native, 128x128x128" in build.name and "nvfp4" in build.name)
    assert "kind::mxf4nvf4.block_scale.scale_vec::4X" in compile_for(native, 120).instruction
    assert compile_for(native, 120).instruction.endswith("ue4m3")
    native = next(
        build for build in BUILDS if 100 in build.instructions and "nvfp4 matmul, native" in build.name
    )
    assert "kind::mxf4nvf4.block_scale" in compile_for(native, 100).instruction


def test_bounds_between_numbers_are_compared_exactly():
    """The sign of a product and sum is that of the exact result only where both are one instruction."""
    quantize = next(build for build in BUILDS if build.name == "nvfp4 quantise, plain")
    ptx = compile_for(quantize, 120).ptx
    assert "fma.rn.f32" in ptx and "div.rn.f32" in ptx
