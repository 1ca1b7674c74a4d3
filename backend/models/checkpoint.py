# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoint -> model: strict about names and shapes, memory-mapped, cast tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .streamed import StreamedBlocks
from .tensor_file import mapped

_NAMED_IN_ERRORS = 5

# Shape, and the function that reads the tensor; what it gives is mapped, and must not be written to.
Entry = tuple[tuple[int, ...], Callable[[], Tensor]]


def file_entries(path: Path, what: str) -> dict[str, Entry]:
    """Name -> entry for a .safetensors file or a folder of them (shards). Nothing is read before it is asked for.

    Args:
        what: the model's name in sentences, such as "refiner".

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: a file is damaged, or two files hold the same tensor.
    """
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise FileNotFoundError(f"There is no checkpoint (.safetensors) of the {what} at {path}.")
    entries: dict[str, Entry] = {}
    for file in files:
        try:
            tensors = mapped(file)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"{file.name} of the {what} is damaged or incomplete ({error}); download it again."
            ) from error
        for name, tensor in tensors.items():
            if name in entries:
                raise ValueError(f"The {what} has {name} in two files; remove the one too many from {path}.")
            entries[name] = (tensor.shape, tensor.read)
    return entries


def read_config(folder: Path, what: str) -> dict[str, Any]:
    """The `config.json` of a model's folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON object.
    """
    path = folder / "config.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no config.json of the {what} in {folder}.") from None
    except ValueError as error:
        raise ValueError(f"{path} is not readable ({error}); download it again.") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{path} holds no settings; download it again.")
    return entries


def require_match(entries: Mapping[str, Entry], model: nn.Module, what: str) -> None:
    """Every tensor of the model is there in its shape, and no other.

    Raises:
        ValueError: tensors are missing, unknown or of another shape; the sentence names them.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: shape for name, (shape, _) in entries.items()}
    misshaped = [
        f"{name} {found[name]} instead of {shape}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    kinds = (
        ("missing", [name for name in expected if name not in found]),
        ("unknown", [name for name in found if name not in expected]),
        ("of another shape", misshaped),
    )
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:_NAMED_IN_ERRORS])}{', ...' if len(names) > _NAMED_IN_ERRORS else ''})"
        for kind, names in kinds
        if names
    ]
    if problems:
        raise ValueError(f"The checkpoint does not fit the {what}: tensors {'; '.join(problems)}.")


def fill(
    model: nn.Module,
    entries: Mapping[str, Entry],
    device: torch.device | str,
    dtype_of: Callable[[str], torch.dtype],
    streams: str = "",
) -> nn.Module:
    """Give a model on the meta device its weights, which must match; for inference.

    Args:
        dtype_of: name of a tensor -> its dtype in memory; the file is mapped and cast tensor by tensor.
        streams: name of a ModuleList whose weights shall stay where they are and visit the device block by block;
            empty to keep everything on the device.
    """

    def read(name: str) -> Tensor:
        # Always a copy: a file that is mapped would crash whoever writes to it.
        return entries[name][1]().to(device=device, dtype=dtype_of(name), copy=True).contiguous()

    stays = [name for name in entries if not (streams and name.startswith(f"{streams}."))]
    model.load_state_dict({name: read(name) for name in stays}, strict=False, assign=True)
    if streams:
        blocks = getattr(model, streams)
        sources = [
            {
                name.removeprefix(f"{streams}.{index}."): (entries[name][1], dtype_of(name))
                for name in entries
                if name.startswith(f"{streams}.{index}.")
            }
            for index in range(len(blocks))
        ]
        setattr(model, streams, StreamedBlocks(blocks, sources, device))
    return model.requires_grad_(False).eval()
