# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoint -> model: strict about names and shapes, memory-mapped, cast tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from .config import Stage1Config
from .transformer import Stage1Transformer

# The original release spells these two layers by their place in a Sequential.
_RENAMED = {"t_embedder.mlp.0.": "t_embedder.linear_1.", "t_embedder.mlp.2.": "t_embedder.linear_2."}
# Buffers of the original training code: a position table that rotary embedding replaced, the null caption.
_DROPPED = {"pos_embed", "y_embedder.y_embedding"}
_CONTAINERS = ("generator", "state_dict", "model")
_PREFIXES = tuple(f"{name}." for name in _CONTAINERS)
_NAMED_IN_ERRORS = 5
# Endings of the small parameters that act in fp32 whatever the model's dtype: decay rates and norms.
FP32_NAMES = ("A_log", "dt_bias", "norm.weight", "norm_cam.weight")

Entry = tuple[tuple[int, ...], Callable[[], Tensor]]


def load(
    source: str | Path | Mapping[str, Tensor],
    config: Stage1Config,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Stage1Transformer:
    """Build the model and fill it from a checkpoint in the original or the diffusers spelling.

    Args:
        source: a .safetensors file, a folder of them (shards), or a state dict.
        config: the architecture the checkpoint must match.
        dtype: of parameters in memory, but decay rates and norms stay in fp32 when it is a smaller type;
            the file is mapped and cast tensor by tensor.

    Raises:
        ValueError: tensors are missing, unknown or of another shape; the sentence names them.
        FileNotFoundError: no checkpoint at that path.
    """
    with torch.device("meta"):
        model = Stage1Transformer(config)
    with _opened(source) as entries:
        loaded = {
            name: read().to(device=device, dtype=_memory_dtype(name, dtype)).contiguous()
            for name, (_, read) in matched(entries, model).items()
        }
    model.load_state_dict(loaded, assign=True)
    return model.requires_grad_(False).eval()


def state_dict_entries(checkpoint: Mapping[str, Any]) -> dict[str, Entry]:
    """Name -> (shape, function that reads the tensor), for a state dict or a training checkpoint around one.

    The weights are the first of `generator`, `state_dict` and `model` that is there, or else the mapping itself;
    what is no tensor is left out.
    """
    for name in _CONTAINERS:
        if isinstance(checkpoint.get(name), Mapping):
            return state_dict_entries(checkpoint[name])
    return {
        name: (tuple(tensor.shape), lambda tensor=tensor: tensor)
        for name, tensor in checkpoint.items()
        if isinstance(tensor, Tensor)
    }


def matched(entries: Mapping[str, Entry], model: Stage1Transformer) -> dict[str, Entry]:
    """The entries under the model's names, one for each of its tensors.

    Raises:
        ValueError: as in `load`.
    """
    renamed = {_canonical(name): entry for name, entry in entries.items()}
    for name in _DROPPED:
        renamed.pop(name, None)
    _check(model.state_dict(), {name: shape for name, (shape, _) in renamed.items()})
    return renamed


def _memory_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32) if name.endswith(FP32_NAMES) else dtype


def _canonical(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name


@contextmanager
def _opened(source: str | Path | Mapping[str, Tensor]) -> Iterator[dict[str, Entry]]:
    if isinstance(source, Mapping):
        yield state_dict_entries(source)
        return
    path = Path(source)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise FileNotFoundError(f"There is no stage-1 checkpoint (.safetensors) at {path}.")
    with ExitStack() as stack:
        entries: dict[str, Entry] = {}
        for file in files:
            archive = stack.enter_context(safe_open(file, framework="pt"))
            for name in archive.keys():
                shape = tuple(archive.get_slice(name).get_shape())
                entries[name] = (shape, lambda archive=archive, name=name: archive.get_tensor(name))
        yield entries


def _check(expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    missing = [name for name in expected if name not in shapes]
    unknown = [name for name in shapes if name not in expected]
    misshaped = [
        f"{name} {shapes[name]} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:_NAMED_IN_ERRORS])}{', ...' if len(names) > _NAMED_IN_ERRORS else ''})"
        for kind, names in (("missing", missing), ("unknown", unknown), ("of another shape", misshaped))
        if names
    ]
    if problems:
        raise ValueError(f"The checkpoint does not fit the stage-1 model: tensors {'; '.join(problems)}.")
