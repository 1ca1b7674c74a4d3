# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the recurrent kernels share."""

import torch


def slices(*ends: int) -> list[slice]:
    """Chunks that end there."""
    return [slice(start, end) for start, end in zip((0, *ends), ends, strict=False)]


def assert_close(name: str, actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """The difference's norm is at most so much of the expected one's; zeros must be zeros."""
    difference, norm = (actual.double() - expected.double()).norm().item(), expected.double().norm().item()
    assert difference <= tolerance * norm, f"{name} differs by {difference:.2e}, its norm is {norm:.2e}"
