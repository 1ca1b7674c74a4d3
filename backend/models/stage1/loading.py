# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoint -> model: strict about names and shapes, memory-mapped, cast tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from .config import Stage1Config
from .transformer import Stage1Transformer

# The original release spells these two layers by their place in a Sequential.
_RENAMED = {"t_embedder.mlp.0.": "t_embedder.linear_1.", "t_embedder.mlp.2.": "t_embedder.linear_2."}
# Buffers of the original training code: a position table that rotary embedding replaced, the null caption.
_DROPPED = {"pos_embed", "y_embedder.y_embedding"}
_WRAPPERS = ("state_dict.", "model.", "generator.")
_NAMED_IN_ERRORS = 5


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
        dtype: of parameters in memory; the file is mapped and cast tensor by tensor.

    Raises:
        ValueError: tensors are missing, unknown or of another shape; the sentence names them.
        FileNotFoundError: no checkpoint at that path.
    """
    with torch.device("meta"):
        model = Stage1Transformer(config)
    expected = model.state_dict()
    with _opened(source) as tensors:
        renamed = {_canonical(name): name for name in tensors}
        for name in _DROPPED:
            renamed.pop(name, None)
        shapes = {name: tensors[original][0] for name, original in renamed.items()}
        _check(expected, shapes)
        loaded = {
            name: tensors[original][1]().to(device=device, dtype=dtype).contiguous()
            for name, original in renamed.items()
        }
    model.load_state_dict(loaded, assign=True)
    return model.requires_grad_(False).eval()


def _canonical(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name


Entry = tuple[tuple[int, ...], Callable[[], Tensor]]


@contextmanager
def _opened(source: str | Path | Mapping[str, Tensor]) -> Iterator[dict[str, Entry]]:
    """Name -> (shape, function that reads the tensor)."""
    if isinstance(source, Mapping):
        flat = source
        for wrapper in _WRAPPERS:
            flat = flat.get(wrapper.rstrip("."), flat)
        yield {name: (tuple(tensor.shape), lambda tensor=tensor: tensor) for name, tensor in flat.items()}
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
