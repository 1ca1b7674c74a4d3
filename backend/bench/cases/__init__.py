# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of cases: an operator of `kernels.OPERATORS` is measured with what stands here under its name."""

from . import gated_delta, linears, torch_baseline
from .case import RELEASE, SMALL, Compared, OperatorCases, Sizes, Timed

CASES: dict[str, OperatorCases] = {
    "frame_gdn": gated_delta.CASES,
    "nvfp4": linears.NVFP4,
    "fp8": linears.FP8,
}
# What there is no kernel of ours for, to compare with; only timed.
BASELINE = torch_baseline.CASES

__all__ = ["BASELINE", "CASES", "Compared", "OperatorCases", "RELEASE", "SMALL", "Sizes", "Timed"]
