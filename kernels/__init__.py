# SPDX-License-Identifier: GPL-3.0-or-later
"""Operators, one folder each: `naive.py` is the truth, the others are fast and tested against it."""

from . import camera_gdn, fp8, frame_gdn, gated_unit, modulation, nvfp4, qk_prologue

OPERATORS = {
    "qk_prologue": qk_prologue,
    "frame_gdn": frame_gdn,
    "camera_gdn": camera_gdn,
    "modulation": modulation,
    "gated_unit": gated_unit,
    "nvfp4": nvfp4,
    "fp8": fp8,
}


def paths(device: str) -> dict[str, tuple[str, str]]:
    """Which of its implementations each operator takes on a torch device, and why: {operator: (path, reason)}."""
    return {name: operator.path(device) for name, operator in OPERATORS.items()}
