# SPDX-License-Identifier: GPL-3.0-or-later
"""A stage-1 checkpoint in any of its spellings -> model, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ...quantization.importers import plain_shapes
from ...quantization.loading import quantize_linears, require_plain, stored_dtypes
from ...quantization.recipe import STAGE1
from ..checkpoint import Entry, file_entries, fill, require_match
from ..lora import Adapter, inject, merged, read_adapter, require_fit
from .config import Stage1Config
from .transformer import Stage1Transformer

# The original release spells these two layers by their place in a Sequential.
_RENAMED = {"t_embedder.mlp.0.": "t_embedder.linear_1.", "t_embedder.mlp.2.": "t_embedder.linear_2."}
# Buffers of the original training code: a position table that rotary embedding replaced, the null caption.
_DROPPED = {"pos_embed", "y_embedder.y_embedding"}
_CONTAINERS = ("generator", "state_dict", "model")
_PREFIXES = tuple(f"{name}." for name in _CONTAINERS)
# Endings of the small parameters that act in fp32 whatever the model's dtype: decay rates and norms.
FP32_NAMES = ("A_log", "dt_bias", "norm.weight", "norm_cam.weight")
_FP32_STORED = (*FP32_NAMES, "scale_shift_table")
_WHAT = "stage-1 model"


def load(
    source: str | Path | Mapping[str, Tensor],
    config: Stage1Config | Mapping[str, bool],
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    streamed: bool = False,
    format: str | None = None,
    reference: Path | None = None,
    adapter: Path | None = None,
    strength: float = 1.0,
) -> Stage1Transformer:
    """Build the model and fill it from a checkpoint in the original or the diffusers spelling, plain or quantised.

    Args:
        source: a .safetensors file, a folder of them (shards), or a state dict.
        config: the architecture the checkpoint must match; or its switches alone, and the sizes are the checkpoint's.
        dtype: of parameters in memory, but decay rates and norms stay in fp32 when it is a smaller type;
            the file is mapped and cast tensor by tensor.
        streamed: leave the blocks' weights on the disk or in host memory and let them visit the device.
        format: "nvfp4" or "fp8" for the linears of the blocks; None to leave them as they are.
        reference: the plain checkpoint, which a quantised one is held against; None if it is not there.
        adapter: a LoRA file that works beside the weights, unmerged; merged into those that are quantised here.
        strength: of the adapter.

    Raises:
        ValueError: the adapter does not fit; tensors are missing, unknown or of another shape; they are named.
        FileNotFoundError: no checkpoint at that path.
    """
    model, entries = described(source, config)
    if format is None or adapter is not None:
        require_plain(entries, _WHAT)
    if adapter is not None:
        change = matching_adapter(adapter, entries)
        entries = (merged if format else partial(inject, model))(entries, change, strength)
    if format is not None:
        plain = None if reference is None else _renamed(file_entries(reference, _WHAT))
        entries = quantize_linears(model, entries, STAGE1, format, device, plain)
    require_match(entries, model, _WHAT)
    packed = stored_dtypes(model)
    return fill(
        model,
        entries,
        device,
        lambda name: packed.get(name) or _memory_dtype(name, dtype),
        "blocks" if streamed else "",
    )


def matching_adapter(path: Path, entries: Mapping[str, Entry]) -> Adapter:
    """A LoRA file that fits stage 1.

    Args:
        entries: of the model's tensors, under its names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no adapter, or one of another model.
    """
    adapter = read_adapter(path)
    require_fit(adapter, {name: shape for name, (shape, _) in entries.items()}, _WHAT)
    mapped = next((module for module in adapter.layers if module.endswith(".plucker_proj")), None)
    if mapped is not None:
        raise ValueError(
            f"{path.name} changes {mapped}, whose weights are used as they are and cannot have an adapter beside them; "
            "choose another adapter."
        )
    return adapter


def require_adapter(path: Path, source: Path) -> None:
    """Refuse what `load` would, before any weights are read; errors as there."""
    matching_adapter(path, described(source)[1])


def described(
    source: str | Path | Mapping[str, Tensor],
    config: Stage1Config | Mapping[str, bool] = MappingProxyType({}),
) -> tuple[Stage1Transformer, dict[str, Entry]]:
    """The model on the meta device, without quantised linears, and the checkpoint's entries under its names.

    Raises:
        ValueError, FileNotFoundError: as in `load`, but that the two need not match yet.
    """
    is_mapping = isinstance(source, Mapping)
    entries = _renamed(state_dict_entries(source) if is_mapping else file_entries(Path(source), _WHAT))
    with torch.device("meta"):
        return Stage1Transformer(architecture(entries, config)), entries


def architecture(entries: Mapping[str, Entry], config: Stage1Config | Mapping[str, bool]) -> Stage1Config:
    """The config, or one with these switches and the sizes of the checkpoint; ValueError if it is no stage 1."""
    if isinstance(config, Stage1Config):
        return config
    shapes = {canonical(name): shape for name, shape in plain_shapes(entries).items()}
    return Stage1Config.from_shapes(shapes, **config)


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
    renamed = _renamed(entries)
    require_match(renamed, model, _WHAT)
    return renamed


def stored_dtype(name: str) -> torch.dtype:
    """Of a tensor in files that this project writes."""
    return torch.float32 if name.endswith(_FP32_STORED) else torch.bfloat16


def _renamed(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Under the model's names, without what it does not have."""
    renamed = {canonical(name): entry for name, entry in entries.items()}
    return {name: entry for name, entry in renamed.items() if name not in _DROPPED}


def _memory_dtype(name: str, dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32) if name.endswith(FP32_NAMES) else dtype


def canonical(name: str) -> str:
    """The model's name for a tensor of a checkpoint in any spelling."""
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name
