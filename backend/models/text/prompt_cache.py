# SPDX-License-Identifier: GPL-3.0-or-later
"""Encoded prompts on disk: a prompt that was encoded before needs no text encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...protocol.atomic import write_bytes

# Another number whenever the same prompt and models would give other tensors than before.
_PACKING = "1"


class PromptCache:
    """A folder of .safetensors files, one for each prompt and what it was encoded with."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def load(self, kind: str, prompt: str, ids: Mapping[str, str]) -> dict[str, Tensor] | None:
        """The tensors of a prompt, or None if it is not there or its file is damaged.

        Args:
            kind: what the prompt is for, such as "stage1", "stage1-negative" or "refiner".
            prompt: exactly as it was encoded.
            ids: what it was encoded with: names or hashes of encoder, tokenizer and connectors, type, length.

        Raises:
            ValueError: the file that should hold this prompt was made with something else.
        """
        wanted = _metadata(kind, prompt, ids)
        path = self._path(wanted)
        try:
            with safe_open(path, framework="pt") as file:
                found = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        except (FileNotFoundError, SafetensorError):
            return None
        if found.pop("sha256", None) != _digest(tensors):
            return None
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                raise ValueError(
                    f"The encoded prompt in {path} was made with {name} = {found.get(name)}, but "
                    f"{wanted.get(name)} is needed; delete the file."
                )
        return tensors

    def save(self, kind: str, prompt: str, ids: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
        """Keep the tensors of a prompt; arguments as in `load`."""
        metadata = _metadata(kind, prompt, ids)
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self._path(metadata), save(stored, {**metadata, "sha256": _digest(stored)}))

    def _path(self, metadata: Mapping[str, str]) -> Path:
        key = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{metadata['kind']}-{key}.safetensors"


def _metadata(kind: str, prompt: str, ids: Mapping[str, str]) -> dict[str, str]:
    return {"kind": kind, "prompt": prompt, "packing": _PACKING, **{f"id {name}": ids[name] for name in ids}}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
