# SPDX-License-Identifier: GPL-3.0-or-later
"""A safetensors file written tensor by tensor: no more than one of them is in memory at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
    torch.float8_e4m3fn: "F8_E4M3",
}
# Shape, dtype, and the function that makes the tensor, called once and in the mapping's order.
Planned = tuple[tuple[int, ...], torch.dtype, Callable[[], Tensor]]


def write_tensors(path: Path, tensors: Mapping[str, Planned], metadata: Mapping[str, str]) -> None:
    """Write a file; wide numbers come first, so that all of them are aligned.

    Raises:
        OSError: it cannot be written, such as on a full disk.
    """
    places: dict[str, int] = {}
    end = 0
    for name in sorted(tensors, key=lambda name: -tensors[name][1].itemsize):
        shape, dtype, _ = tensors[name]
        places[name], end = end, end + math.prod(shape) * dtype.itemsize
    header = {"__metadata__": dict(metadata)} | {
        name: {
            "dtype": _NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [places[name], places[name] + math.prod(shape) * dtype.itemsize],
        }
        for name, (shape, dtype, _) in tensors.items()
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        for name, (shape, dtype, make) in tensors.items():
            tensor = make().to(dtype).contiguous()
            if tuple(tensor.shape) != shape:
                raise ValueError(f"{name} has the shape {tuple(tensor.shape)} instead of {shape}.")
            file.seek(start + places[name])
            file.write(tensor.flatten().view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
