# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shipped for a GPU: by its compute capability."""

from collections.abc import Mapping
from typing import TypeVar

import torch

T = TypeVar("T")


def shipped_for(device: torch.device, by_capability: Mapping[int, T]) -> T:
    """The entry of the newest generation that the device is not older than; of the newest one in the interpreter.

    Args:
        by_capability: such as 90 for compute capability 9.0.
    """
    if device.type != "cuda":
        return by_capability[max(by_capability)]
    major, minor = torch.cuda.get_device_capability(device)
    return by_capability[max(known for known in by_capability if known <= 10 * major + minor)]
