# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs where: Triton or torch, and the configuration that is shipped for a GPU's compute capability."""

import functools
import importlib.util
import sys
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


def triton_path(device: torch.device | str) -> tuple[str, str]:
    """Which implementation of an operator that has both runs on a device, and why.

    Returns:
        "fused" (Triton) or "vectorized" (torch's own operations), and a clause that says why.

    Raises:
        RuntimeError: the GPU could run Triton's kernels, but Triton is missing.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return "vectorized", "Triton's kernels are for GPUs"
    if not torch.cuda.is_available():
        return "vectorized", "no graphics card is here that could be asked"
    return _of_card(torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _of_card(index: int) -> tuple[str, str]:
    name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
    if capability < (8, 0):
        return "vectorized", f"{name} is older than Triton's kernels need"
    if importlib.util.find_spec("triton") is None:
        if sys.platform != "linux":
            return "vectorized", "Triton is made for Linux alone"
        raise RuntimeError("Kernels on a GPU need triton; set the backend up again.")
    return "fused", f"Triton's kernels run on {name}"
