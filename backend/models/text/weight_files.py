# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of .safetensors files, read tensor by tensor under the names of the model that it fills."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

# Name -> what safetensors calls a slice: get_shape() looks, indexing reads.
Weights = Mapping[str, Any]

_NAMED_IN_ERRORS = 5


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json.

    Raises:
        FileNotFoundError: there is none.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"There is no config.json in {folder}.")
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def opened(folder: Path, rename: Callable[[str], str | None]) -> Iterator[Weights]:
    """The tensors of a folder, readable inside the `with`.

    Args:
        folder: with one .safetensors file, or with shards and their index.
        rename: a name in the file -> the model's name, or None for a tensor that the model does not have.

    Raises:
        FileNotFoundError: there are no such files, or a shard of the index is missing.
        ValueError: a file is damaged, or two tensors have the same name.
    """
    with ExitStack() as stack:
        weights: dict[str, Any] = {}
        for file in _files(folder):
            try:
                archive = stack.enter_context(safe_open(file, framework="pt"))
            except SafetensorError as error:
                raise ValueError(f"{file} is not a whole .safetensors file: {error}.") from error
            for key in archive.keys():
                name = rename(key)
                if name in weights:
                    raise ValueError(
                        f"{folder} has {name} twice, the second time in {file.name}; keep one copy of the weights."
                    )
                if name is not None:
                    weights[name] = archive.get_slice(key)
        yield weights


def check(weights: Weights, model: nn.Module, folder: Path) -> None:
    """
    Raises:
        ValueError: tensors are missing, unknown or of another shape than the model's; the sentence names them.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.get_shape()) for name, tensor in weights.items()}
    wrong = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "of another shape": [
            f"{name} {found[name]} instead of {shape}"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ],
    }
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:_NAMED_IN_ERRORS])}{', ...' if len(names) > _NAMED_IN_ERRORS else ''})"
        for kind, names in wrong.items()
        if names
    ]
    if problems:
        raise ValueError(
            f"The weights in {folder} do not fit {type(model).__name__}: tensors {'; '.join(problems)}."
        )


def fill(module: nn.Module, prefix: str, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
    """Put the tensors called `prefix` + name into the module, each cast as it is read."""
    tensors = {name: weights[prefix + name][:].to(device, dtype) for name in module.state_dict()}
    module.load_state_dict(tensors, assign=True)


def _files(folder: Path) -> list[Path]:
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if indices:
        names = set(json.loads(indices[0].read_text(encoding="utf-8"))["weight_map"].values())
        files = [folder / name for name in sorted(names)]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"There are no .safetensors files in {folder}; weights in any other format are not read."
        )
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)} of the index in {folder} is missing; download it again."
        )
    return files
