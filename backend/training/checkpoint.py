# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights, their average and the optimiser's state, in one file that is replaced as a whole."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ..models.tensor_file import FileTensor, mapped, write

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Optimization(Protocol):
    """What AdamW and the average are told: `betas`, `weight_decay`, and `ema`, the share that an average keeps."""

    learning_rate: float
    betas: tuple[float, float]
    weight_decay: float
    ema: float


class TrainingState:
    """What a step changes. Of a model in several processes every one has a part, and all save and resume together.

    Args:
        model: what needs gradients is trained. Several models are one `ModuleDict`.
        config: of the optimiser.
        rate_scales: factors of the learning rate for those children of the model that have their own.

    Attributes:
        step: steps done.
        cpu_s: CPU seconds spent so far, over all runs.
        parameters: what is trained.
        optimizer: AdamW.
    """

    def __init__(
        self, model: nn.Module, config: Optimization, rate_scales: Mapping[str, float] | None = None
    ) -> None:
        self.step = 0
        self.cpu_s = 0.0
        self.model = model
        self._decay = config.ema
        named = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
        self._names = [name for name, _ in named]
        self.parameters = [value for _, value in named]
        self._average = [value.detach().clone() for value in self.parameters]
        scales = rate_scales or {}
        groups: dict[float, list[nn.Parameter]] = {}
        for name, value in named:
            groups.setdefault(scales.get(name.split(".")[0], 1.0), []).append(value)
        self.optimizer = torch.optim.AdamW(
            [{"params": values, "scale": scale} for scale, values in groups.items()],
            lr=config.learning_rate,
            betas=tuple(config.betas),
            weight_decay=config.weight_decay,
        )

    def apply(self, learning_rate: float) -> None:
        """One turn of the optimiser; parameters without a gradient stay as they are, and so does their average."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["scale"]
        self.optimizer.step()
        # The average starts short, so that it forgets the untrained weights.
        decay = min(self._decay, (self.step + 1) / (self.step + 11))
        moved = [i for i, value in enumerate(self.parameters) if value.grad is not None]
        with torch.no_grad():
            torch._foreach_lerp_(
                [self._average[i] for i in moved], [self.parameters[i] for i in moved], 1 - decay
            )

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with its averaged weights, without gradients, for as long as the context lasts."""
        self._exchange()
        was_training = self.model.training
        try:
            with torch.no_grad():
                yield self.model.eval()
        finally:
            self.model.train(was_training)
            self._exchange()

    def averaged_model(self) -> nn.Module:
        """A copy of the model with the averaged weights."""
        with self.averaged() as model:
            return copy.deepcopy(model).eval().requires_grad_(False)

    def averages(self) -> dict[str, FileTensor]:
        """The averaged weights by name, as they go into a file."""
        return {name: tensor_entry(value) for name, value in zip(self._names, self._average, strict=True)}

    def save(self, path: Path, is_first: bool = True) -> None:
        """Replace the checkpoint; `is_first` for the process that writes it."""
        tensors = {
            "progress.step": tensor_entry(torch.tensor(self.step)),
            "progress.cpu_s": tensor_entry(torch.tensor(self.cpu_s, dtype=torch.float64)),
        }
        for index, name in enumerate(self._names):
            parameter = self.parameters[index]
            tensors[f"weights.{name}"] = tensor_entry(parameter.detach())
            tensors[f"average.{name}"] = tensor_entry(self._average[index])
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}.{name}"] = tensor_entry(value)
        write_whole(path, tensors, is_first)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one.

        Raises:
            ValueError: it is of another model, or damaged.
        """
        if not path.exists():
            return
        try:
            stored = mapped(path)
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); remove it to begin anew.") from error
        expected = {
            f"weights.{name}": tuple(p.shape) for name, p in zip(self._names, self.parameters, strict=True)
        }
        found = {name: entry.shape for name, entry in stored.items() if name.startswith("weights.")}
        if found != expected:
            name = next(n for n in sorted(expected | found) if expected.get(n) != found.get(n))
            raise ValueError(
                f"{path} is of another model ({name.removeprefix('weights.')} differs); name another folder in the "
                "configuration, or remove the checkpoint."
            )
        self.step = int(stored["progress.step"].read())
        self.cpu_s = float(stored["progress.cpu_s"].read())
        with torch.no_grad():
            for index, name in enumerate(self._names):
                parameter = self.parameters[index]
                parameter.copy_(_laid_out_like(parameter, stored[f"weights.{name}"].read()))
                self._average[index].copy_(_laid_out_like(parameter, stored[f"average.{name}"].read()))
                # What has never had a gradient, such as the softmax block's gates, has no state.
                if f"exp_avg.{name}" in stored:
                    self.optimizer.state[parameter] = {
                        key: _laid_out_like(parameter, stored[f"{key}.{name}"].read()) for key in _MOMENTS
                    }

    def _exchange(self) -> None:
        with torch.no_grad():
            for value, average in zip(self.parameters, self._average, strict=True):
                kept = value.detach().clone()
                value.copy_(average)
                average.copy_(kept)


def write_whole(
    path: Path,
    tensors: Mapping[str, FileTensor],
    is_first: bool = True,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Replace a file by these tensors; tensors that lie in several processes are collected one by one."""
    if not is_first:
        for tensor in tensors.values():
            tensor.read()
        return
    partial = path.with_suffix(".partial")
    try:
        write(partial, tensors, {"format": "pt", **(metadata or {})})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def tensor_entry(value: Tensor) -> FileTensor:
    """As it goes into a file; what lies in several processes is collected when it is read."""
    return FileTensor(tuple(value.shape), value.dtype, _reader(value))


def _reader(value: Tensor) -> Callable[[], Tensor]:
    def read() -> Tensor:
        return (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()

    return read


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy where and how the parameter is; the count of steps stays a plain number."""
    if value.dim() == 0:
        return value.clone()
    if isinstance(parameter, DTensor):
        there = value.to(parameter.device_mesh.device_type, copy=True)
        return distribute_tensor(there, parameter.device_mesh, parameter.placements, src_data_rank=None)
    return value.to(parameter.device, copy=True)
