# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1's pointwise kernels compiled for GPUs that are not there: spills, shared memory, accesses, rounding."""

import re
from dataclasses import replace

import pytest

from kernels.ahead_of_time import SHARED_LIMITS, compile_for
from kernels.gated_unit import fused as gates
from kernels.modulation import fused as modulation
from kernels.qk_prologue import fused as prologue

BUILDS = [build for module in (prologue, modulation, gates) for build in module.builds()]
CASES = [(build, capability) for build in BUILDS for capability in build.instructions]


@pytest.mark.parametrize(
    ("build", "capability"), CASES, ids=[f"{build.name}, sm_{capability}" for build, capability in CASES]
)
def test_compiles_without_spills_to_wide_accesses(build, capability):
    code = compile_for(build, capability)
    assert code.stack_bytes == 0
    assert code.shared_bytes <= SHARED_LIMITS[capability]
    for access in (r"ld\.global[\w:.]*\.v4\.b32", r"st\.global[\w:.]*\.v4\.b32"):
        assert re.search(access, code.ptx), "memory is accessed 16 bytes at a time"
    assert "cvt.rn.bf16x2.f32" in code.ptx, "results are rounded to nearest"


@pytest.mark.parametrize("build", BUILDS, ids=[build.name for build in BUILDS])
def test_a_single_frame_or_token_compiles_too(build):
    """A launch makes a constant of a size that is 1."""
    ones = {name: 1 for name in ("T", "S", "rows") if name in build.signature}
    signature = {name: kind for name, kind in build.signature.items() if name not in ones}
    single = replace(build, signature=signature, constants={**build.constants, **ones})
    assert compile_for(single, 90).stack_bytes == 0
