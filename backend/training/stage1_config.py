# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file of a recipe of stage 1."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from ..protocol.records import from_record
from .lora import LoraSettings

PRECISIONS = ("fp32", "bf16")
Section = TypeVar("Section")


@dataclass(frozen=True)
class ModelSettings:
    """Section `model`.

    Attributes:
        checkpoint: file or folder of the weights to start from, relative to the configuration; "" for random ones.
        architecture: fields of `Stage1Config` that differ from the released model's; with a checkpoint, which has the
            sizes, only its switches. Of the embedded network, fields of `EmbeddedConfig`.
        embedded: train the embedded network, whose data are `train clips`.
    """

    checkpoint: str = ""
    architecture: dict[str, Any] = field(default_factory=dict)
    embedded: bool = False


@dataclass(frozen=True)
class ParallelSettings:
    """Section `parallel`, for runs under torchrun.

    Attributes:
        context_ranks: processes that share the frames of a clip.
        precision: of the computation, "fp32" or "bf16"; weights, optimiser and average are fp32 either way.
        recompute: keep only the blocks' inputs and compute each block a second time in the backward pass.
    """

    context_ranks: int = 1
    precision: str = "fp32"
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"parallel.precision must be fp32 or bf16, not {self.precision!r}.")
        if self.context_ranks < 1:
            raise ValueError(f"parallel.context_ranks must be at least 1, not {self.context_ranks}.")


@dataclass(frozen=True)
class Stage1Run:
    """One run; see `LoopConfig` for what is not said here.

    Attributes:
        folder: of checkpoints, tables, sheets and weights; relative to the configuration.
        data: a dataset of `python -m backend data`, or a folder of rendered clips (of the embedded network: `train
            clips`) with the parts `train` and `heldout`; relative to the configuration.
        heldout: another dataset whose clips are looked at and not trained on; "" to hold out the first clips of data.
        weights: folder with the text encoder, relative to the configuration, for datasets; "" where the model reads no
            captions, but the one constant token of the embedded model.
        figure_clips: held-out clips for figures; the first two are on the sheets.
        recipe: settings of the recipe, see its `settings_type`.
        lora: train an adapter instead of the weights; None to train these.
    """

    folder: str
    data: str
    seed: int
    steps: int
    batch_clips: int
    learning_rate: float
    evaluate_every: int
    model: ModelSettings
    accumulate: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    ema: float = 0.999
    clip_norm: float = 1.0
    warm_up_steps: int = 40
    flat_share: float = 1.0
    figure_clips: int = 4
    heldout: str = ""
    weights: str = ""
    recipe: Any = None
    lora: LoraSettings | None = None
    parallel: ParallelSettings = field(default_factory=ParallelSettings)

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        counts = ("steps", "batch_clips", "accumulate", "evaluate_every", "figure_clips")
        small = next((name for name in counts if getattr(self, name) < 1), None)
        if small is not None:
            raise ValueError(f"{small} must be at least 1, not {getattr(self, small)}.")

    @classmethod
    def load(cls, path: Path, settings_type: type) -> Stage1Run:
        """Read a configuration file of a recipe with these settings.

        Raises:
            OSError: it cannot be read.
            ValueError: a name is unknown or missing, or a value is of no use; one sentence.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not readable JSON: {error}.") from error
        config = from_section(cls, record, str(path))
        recipe = from_section(settings_type, config.recipe or {}, f"{path}, section recipe")
        if getattr(recipe, "real_score", ""):
            recipe = replace(recipe, real_score=str((path.parent / recipe.real_score).resolve()))
        made = {entry.name: getattr(config, entry.name) for entry in fields(cls)} | {"recipe": recipe}
        for name in ("folder", "data", "heldout", "weights"):
            if made[name]:
                made[name] = str((path.parent / made[name]).resolve())
        if config.model.checkpoint:
            checkpoint = str((path.parent / config.model.checkpoint).resolve())
            made["model"] = replace(config.model, checkpoint=checkpoint)
        return cls(**made)


def from_section(kind: type[Section], record: Any, what: str) -> Section:
    """`from_record` for dataclasses that have dataclasses in them."""
    hints = get_type_hints(kind)
    inner = {
        name: next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        for name, hint in hints.items()
    }
    if isinstance(record, dict):
        record = {
            name: from_section(inner[name], value, f"{what}, section {name}")
            if inner.get(name) and value is not None
            else value
            for name, value in record.items()
        }
    return from_record(kind, record, what)
