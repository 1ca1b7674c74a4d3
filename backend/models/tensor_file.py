# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of the safetensors format that are larger than memory: read tensor by tensor where they lie, written likewise.

The format (https://github.com/huggingface/safetensors): eight bytes with the length of a JSON header, the header, the
tensors' bytes one after another. The safetensors library maps a file so that its tensors could be written to, which
Linux refuses for files larger than memory; the refiner is one file of 38 GB. Here it is mapped for reading alone.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_LARGEST_HEADER = 100_000_000


class FileTensor(NamedTuple):
    """A tensor that is not read yet; `read` gives it as it is mapped, which must not be written to."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


def mapped(path: Path) -> dict[str, FileTensor]:
    """The tensors of a file by name. Pages come into memory when they are read, and leave it when it is short.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged or incomplete; what is wrong, without the file's name.
    """
    with open(path, "rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > _LARGEST_HEADER:
            raise ValueError("it has no safetensors header")
        text = file.read(length)
        begin, size = 8 + length, os.fstat(file.fileno()).st_size
        entries = _entries(text, size - begin)
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {
        name: FileTensor(shape, dtype, _reader(whole, begin + offset, shape, dtype))
        for name, (shape, dtype, offset) in entries.items()
    }


def write(path: Path, tensors: Mapping[str, FileTensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors, each read when its turn comes; wide numbers lie first, so that all of them are aligned.

    Raises:
        OSError: it cannot be written, such as on a full disk.
        ValueError: a tensor is not what was said of it.
    """
    places: dict[str, tuple[int, int]] = {}
    end = 0
    for name, (shape, dtype, _) in sorted(tensors.items(), key=lambda entry: -entry[1][1].itemsize):
        begin, end = end, end + math.prod(shape) * dtype.itemsize
        places[name] = begin, end
    header: dict[str, Any] = {"__metadata__": dict(metadata or {"format": "pt"})}
    for name, (shape, dtype, _) in tensors.items():
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": list(places[name])}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        start = file.tell()
        for name, (shape, dtype, read) in tensors.items():
            tensor = read()
            if tensor.shape != shape or tensor.dtype != dtype:
                raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}, not {shape} {dtype}.")
            file.seek(start + places[name][0])
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())


def _entries(text: bytes, data_size: int) -> dict[str, tuple[tuple[int, ...], torch.dtype, int]]:
    """Name -> shape, dtype, offset."""
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        found = {
            name: (tuple(entry["shape"]), _DTYPES[entry["dtype"]], *entry["data_offsets"])
            for name, entry in header.items()
        }
        for name, (shape, dtype, begin, end) in found.items():
            if not 0 <= begin <= end or end - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"the place of {name} is wrong")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"its header is damaged: {error}") from error
    ends = max((end for *_, end in found.values()), default=0)
    if data_size < ends:
        raise ValueError(f"{ends - data_size:,} bytes are missing at its end")
    return {name: (shape, dtype, begin) for name, (shape, dtype, begin, _) in found.items()}


def _reader(
    whole: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: torch.dtype
) -> Callable[[], Tensor]:
    def read() -> Tensor:
        if 0 in shape:
            return torch.empty(shape, dtype=dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch has no tensors that refuse to be written to
            flat = torch.frombuffer(whole, dtype=dtype, count=math.prod(shape), offset=offset)
        return flat.view(shape)

    return read
