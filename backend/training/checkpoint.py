# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights, their average and the optimiser's state, in one file that is replaced as a whole."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from .config import RecipeConfig


class TrainingState:
    """What a step changes.

    Attributes:
        step: steps done.
        cpu_s: CPU seconds spent so far, over all runs.
        parameters: what is trained; the codec is not.
        optimizer: AdamW.
    """

    def __init__(self, model: nn.Module, config: RecipeConfig) -> None:
        self.step = 0
        self.cpu_s = 0.0
        self._model = model
        self._decay = config.ema
        self._names = [name for name, value in model.named_parameters() if value.requires_grad]
        self.parameters = [value for value in model.parameters() if value.requires_grad]
        self._average = [value.detach().clone() for value in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )

    def apply(self, learning_rate: float) -> None:
        """One optimiser step with the gradients that are there."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.step += 1
        # The average starts short, so that it forgets the untrained weights.
        decay = min(self._decay, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self._average, self.parameters, 1 - decay)

    def averaged_model(self) -> nn.Module:
        """A copy of the model with the averaged weights."""
        model = copy.deepcopy(self._model)
        with torch.no_grad():
            for value, average in zip(self._trained(model), self._average, strict=True):
                value.copy_(average)
        return model.eval().requires_grad_(False)

    def save(self, path: Path) -> None:
        """Replace the checkpoint."""
        tensors = {}
        for index, name in enumerate(self._names):
            parameter = self.parameters[index]
            tensors[f"weights.{name}"] = parameter.detach().contiguous()
            tensors[f"average.{name}"] = self._average[index]
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}.{name}"] = value
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, metadata={"step": str(self.step), "cpu_s": str(self.cpu_s)})
        partial.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one."""
        if not path.exists():
            return
        with safe_open(path, "pt") as stored, torch.no_grad():
            self.step = int(stored.metadata()["step"])
            self.cpu_s = float(stored.metadata()["cpu_s"])
            keys = set(stored.keys())
            for index, name in enumerate(self._names):
                parameter = self.parameters[index]
                parameter.copy_(stored.get_tensor(f"weights.{name}"))
                self._average[index].copy_(stored.get_tensor(f"average.{name}"))
                # Parameters without a gradient, such as the softmax block's gates, have no state.
                if f"exp_avg.{name}" in keys:
                    self.optimizer.state[parameter] = {
                        key: stored.get_tensor(f"{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")
                    }

    def _trained(self, model: nn.Module) -> list[nn.Parameter]:
        named = dict(model.named_parameters())
        return [named[name] for name in self._names]
