# SPDX-License-Identifier: GPL-3.0-or-later
"""Low-rank adapters: read from a file in any of their spellings, and put beside a model's linears.

An adapter changes a weight W (out, in) to W + scale * B A, with A (rank, in) and B (out, rank).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoint import Entry, file_entries

# Training code names factors plainly, libraries with `.weight`; some put the root module in front.
_FACTOR = re.compile(r"(?:diffusion_model\.|transformer\.)?(.+)\.lora_([AB])(?:\.default)?(?:\.weight)?")
_ALPHA = re.compile(r"(?:diffusion_model\.|transformer\.)?(.+)\.alpha")
# Parts of names as Lightricks spells them -> as the released checkpoints do.
_RENAMED = {"patchify_proj": "proj_in", "adaln_single": "time_embed", "q_norm": "norm_q", "k_norm": "norm_k"}
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_ADAPTER = "default"  # peft's name for the only one


@dataclass(frozen=True)
class LowRank:
    """Of one linear: the factors' shapes with the functions that read them, and alpha / rank."""

    a: Entry
    b: Entry
    scale: float

    @property
    def rank(self) -> int:
        return self.a[0][0]

    def changed(self, weight: Tensor, strength: float) -> Tensor:
        """The weight (out, in) with this change merged in, fp32."""
        change = self.b[1]().float() @ self.a[1]().float()
        return weight.float() + change * (self.scale * strength)


@dataclass(frozen=True)
class Adapter:
    """What a file changes.

    Attributes:
        layers: by the linear's name in the model.
        left_out: names of modules that belong to another part, such as sound.
    """

    name: str
    layers: dict[str, LowRank]
    left_out: tuple[str, ...] = ()


def read_adapter(path: Path, belongs_elsewhere: Callable[[str], bool] = lambda module: False) -> Adapter:
    """Look into an adapter's file; the factors are read when they are needed.

    Args:
        belongs_elsewhere: module -> whether it is left out because the model does not build it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a pickle, damaged, no adapter, half of a pair or one twice, no number as alpha, or nothing for this
            model.
    """
    if path.suffix.lower() in _PICKLES:
        raise ValueError(f"{path.name} is a pickle, which could run code; get the adapter as .safetensors.")
    factors: dict[str, dict[str, Entry]] = {}
    alphas: dict[str, float] = {}
    for name, entry in file_entries(path, "adapter").items():
        if match := _FACTOR.fullmatch(name):
            module, side = _canonical(match[1]), match[2]
            if side in factors.setdefault(module, {}):
                raise ValueError(f"{path.name} has lora_{side} of {module} twice; get a whole file.")
            factors[module][side] = entry
        elif match := _ALPHA.fullmatch(name):
            alphas[_canonical(match[1])] = _alpha(path, name, entry)
        else:
            raise ValueError(
                f"{path.name} is not a LoRA adapter: {name} is neither a factor nor its alpha; choose another file."
            )
    layers, left_out = {}, []
    for module, pair in factors.items():
        if belongs_elsewhere(module):
            left_out.append(module)
            continue
        if set(pair) != {"A", "B"}:
            raise ValueError(f"{path.name} has only lora_{next(iter(pair))} of {module}; get a whole file.")
        if any(len(shape) != 2 or 0 in shape for shape, _ in pair.values()):
            raise ValueError(
                f"{path.name} has factors of {module} that are no matrices; choose another adapter."
            )
        (rank, _), (_, columns) = pair["A"][0], pair["B"][0]
        if rank != columns:
            raise ValueError(
                f"{path.name} has factors of rank {rank} and {columns} for {module}; get a whole file."
            )
        layers[module] = LowRank(pair["A"], pair["B"], alphas.get(module, float(rank)) / rank)
    if not layers:
        raise ValueError(f"{path.name} changes nothing of this model; choose another adapter.")
    return Adapter(path.name, layers, tuple(left_out))


def require_fit(adapter: Adapter, shapes: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Every changed linear is there, in the shape that the factors have.

    Args:
        shapes: of the model's tensors by name.
        what: the model's name in sentences, such as "refiner".

    Raises:
        ValueError: one sentence that names the first linear that is not.
    """
    for module, layer in adapter.layers.items():
        shape = shapes.get(f"{module}.weight")
        if shape is None or len(shape) != 2:
            raise ValueError(
                f"{adapter.name} changes {module}, which the {what} does not have; choose another adapter."
            )
        changed = layer.b[0][0], layer.a[0][1]
        if changed != shape:
            raise ValueError(
                f"{adapter.name} changes {module} as if it were {changed}, but the {what} has it as {shape}; choose "
                "another adapter."
            )


def inject(
    model: nn.Module, entries: Mapping[str, Entry], adapter: Adapter, strength: float
) -> dict[str, Entry]:
    """Put the adapter beside the linears of a model on the meta device, where it works unmerged.

    Args:
        entries: the base checkpoint's, which match the model.
        strength: factor of the whole change.

    Returns:
        The entries of the model with its adapter, under the names that peft gives them.
    """
    from peft import LoraConfig, inject_adapter_in_model

    ranks = {module: layer.rank for module, layer in adapter.layers.items()}
    config = LoraConfig(
        r=max(ranks.values()),
        lora_alpha=max(ranks.values()),
        # By whole names: the endings alone would also hit attention of other streams.
        target_modules="|".join(re.escape(module) for module in ranks),
        rank_pattern={re.escape(module): rank for module, rank in ranks.items()},
        alpha_pattern={re.escape(module): rank for module, rank in ranks.items()},
        init_lora_weights=False,
    )
    with torch.device("meta"):
        inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    adapted = dict(entries)
    for module, layer in adapter.layers.items():
        model.get_submodule(module).set_scale(_ADAPTER, layer.scale * strength)
        for part in ("weight", "bias"):
            if f"{module}.{part}" in adapted:
                adapted[f"{module}.base_layer.{part}"] = adapted.pop(f"{module}.{part}")
        adapted[f"{module}.lora_A.{_ADAPTER}.weight"] = layer.a
        adapted[f"{module}.lora_B.{_ADAPTER}.weight"] = layer.b
    return adapted


def merged(entries: Mapping[str, Entry], adapter: Adapter, strength: float) -> dict[str, Entry]:
    """The base checkpoint's entries, with the adapter's change in those that it changes, fp32, when they are read."""

    def read(plain: Callable[[], Tensor], layer: LowRank) -> Tensor:
        return layer.changed(plain(), strength)

    changed = {f"{module}.weight": layer for module, layer in adapter.layers.items()}
    return {
        name: (shape, partial(read, plain, changed[name]) if name in changed else plain)
        for name, (shape, plain) in entries.items()
    }


def _alpha(path: Path, name: str, entry: Entry) -> float:
    shape, read = entry
    if math.prod(shape) != 1 or not math.isfinite(value := float(read())):
        raise ValueError(f"{path.name} has no number in {name}; get a whole file.")
    return value


def _canonical(module: str) -> str:
    return ".".join(_RENAMED.get(part, part) for part in module.split("."))
