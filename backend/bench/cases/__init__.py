# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of cases: an operator of `kernels.OPERATORS` is measured with what stands here under its name."""

from . import gated_delta, linears, pointwise, torch_baseline
from .case import RELEASE, SMALL, Compared, OperatorCases, Sizes, Timed

CASES: dict[str, OperatorCases] = {
    "qk_prologue": pointwise.PROLOGUE,
    "frame_gdn": gated_delta.MAIN,
    "camera_gdn": gated_delta.CAMERA,
    "modulation": pointwise.MODULATION,
    "gated_unit": pointwise.GATED_UNIT,
    "nvfp4": linears.NVFP4,
    "fp8": linears.FP8,
}
# What there is no kernel of ours for, to compare with; only timed.
BASELINE = torch_baseline.CASES

__all__ = ["BASELINE", "CASES", "Compared", "OperatorCases", "RELEASE", "SMALL", "Sizes", "Timed"]
