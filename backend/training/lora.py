# SPDX-License-Identifier: GPL-3.0-or-later
"""Training an adapter of stage 1 instead of its weights, by peft, and the file that `models.lora` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..models.tensor_file import FileTensor

_ADAPTER = "default"


@dataclass(frozen=True)
class LoraSettings:
    """Section `lora` of a configuration.

    Attributes:
        rank: of the factors.
        alpha: the change is the factors' product times alpha / rank.
        targets: endings of the names of the linears that change.
    """

    rank: int = 16
    alpha: float = 16.0
    targets: tuple[str, ...] = (
        "attn.qkv",
        "attn.proj",
        "cross_attn.q_linear",
        "cross_attn.kv_linear",
        "cross_attn.proj",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        if self.rank < 1:
            raise ValueError(f"lora.rank must be at least 1, not {self.rank}.")


def adapt(model: nn.Module, settings: LoraSettings) -> None:
    """Freeze the model and put factors beside its linears; at first they change nothing.

    Raises:
        ValueError: a target is no linear of the model's blocks.
    """
    from peft import LoraConfig, inject_adapter_in_model

    linears = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    # What maps Plücker numbers is applied as a matrix, not called; an adapter beside it would do nothing.
    linears = [name for name in linears if name.startswith("blocks.") and not name.endswith("plucker_proj")]
    for target in settings.targets:
        if not any(name.endswith(f".{target}") for name in linears):
            raise ValueError(f"lora.targets has {target!r}, which is no linear of stage 1's blocks.")
    chosen = [name for name in linears if name.endswith(tuple(f".{target}" for target in settings.targets))]
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=chosen)
    model.requires_grad_(False)
    inject_adapter_in_model(config, model, adapter_name=_ADAPTER)


def adapter_file(factors: Mapping[str, FileTensor], settings: LoraSettings) -> dict[str, FileTensor]:
    """Trained factors by their names in the model -> the tensors of an adapter's file."""
    tensors = {}
    for name, tensor in factors.items():
        plain = name.replace(f".{_ADAPTER}.weight", ".weight")
        tensors[plain] = tensor
        if ".lora_A." in name:
            alpha = torch.tensor(float(settings.alpha))
            tensors[f"{plain.split('.lora_A.')[0]}.alpha"] = FileTensor((), alpha.dtype, lambda a=alpha: a)
    return tensors
