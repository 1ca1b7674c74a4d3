# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers of a training run, read from a JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class RecipeConfig:
    """One run of the embedded model's recipe.

    Attributes:
        folder: where scenes, clips, checkpoints and figures go; relative to the configuration file.
        seed: of scenes, initial weights, order and augmentation.
        scenes, moves_per_scene, frames: the training set; frames is 8k + 1.
        raster: (width, height) of the training clips in pixels, multiples of 8.
        heldout_scenes: scenes of the held-out set, six canonical moves each.
        heldout_raster: (width, height) of the held-out clips: the size the product runs the network at.
        hidden_size, blocks, mlp_ratio: of the stage-1 network; every fourth block is softmax.
        filter_width: channels of the pixel filter.
        steps, batch_clips, learning_rate, weight_decay, ema, clip_norm: of the optimisation. The rate is
            flat for the first half of the steps, then falls to zero as a cosine.
        filter_frames: frames of each clip that are kept at the pixel filter's size; each time another one passes it.
        one_step_share: share of the clips trained at sigma 1, where the product samples.
        evaluate_every: steps between held-out figures and checkpoints.
    """

    folder: str
    seed: int
    scenes: int
    moves_per_scene: int
    frames: int
    raster: tuple[int, int]
    heldout_scenes: int
    heldout_raster: tuple[int, int]
    hidden_size: int
    blocks: int
    mlp_ratio: float
    filter_width: int
    steps: int
    batch_clips: int
    learning_rate: float
    weight_decay: float
    ema: float
    clip_norm: float
    filter_frames: int
    one_step_share: float
    evaluate_every: int
    # The same in every run.
    accumulate: ClassVar[int] = 1
    betas: ClassVar[tuple[float, float]] = (0.9, 0.98)
    warm_up_steps: ClassVar[int] = 40
    flat_share: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "raster", tuple(self.raster))
        object.__setattr__(self, "heldout_raster", tuple(self.heldout_raster))
        if self.frames % 8 != 1:
            raise ValueError(f"frames must be 8k + 1, not {self.frames}.")
        if any(side % 8 for side in (*self.raster, *self.heldout_raster)):
            raise ValueError("The sides of both rasters must be multiples of 8.")

    @classmethod
    def load(cls, path: Path) -> RecipeConfig:
        """Read a configuration file. Raises ValueError with a sentence when it does not fit."""
        record = json.loads(path.read_text())
        known = {field.name for field in fields(cls)}
        if set(record) != known:
            wrong = ", ".join(sorted(set(record) ^ known))
            raise ValueError(f"{path} must name every setting once and nothing else; look at: {wrong}.")
        folder = str((path.parent / record["folder"]).resolve())
        return cls(**{**record, "folder": folder})
