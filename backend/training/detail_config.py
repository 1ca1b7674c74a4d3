# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers of a long run of the embedded model, read from a JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

# The pixel filter works at this many times the network's raster.
DETAIL = 2


@dataclass(frozen=True)
class DetailConfig:
    """One run. The training set grows by stages, so that training need not wait for all of it.

    Attributes:
        folder: where data, checkpoint and figures go; relative to the configuration file.
        seed: of scenes, first frames, initial weights, order and augmentation.
        stages, scenes_per_stage, moves_per_scene, frames: of the training set; frames is 8k + 1.
        detail_frames: frames of each clip that are there at DETAIL times the raster too, for the pixel filter.
        raster: (width, height) of the training clips in pixels, multiples of 8.
        heldout_scenes, heldout_raster: of the held-out set, six canonical moves a scene, at the product's raster.
        hidden_size, blocks, mlp_ratio, filter_width: of the network and of the pixel filter.
        steps_per_stage, batch_clips, learning_rate, betas, weight_decay, ema, clip_norm: of the optimisation. The
            rate is flat for the first half of all steps, then falls to zero as a cosine.
        one_step_share: share of the clips trained at sigma 1, where the product samples.
        evaluate_every, save_every_s: steps between held-out figures, seconds between checkpoints.
    """

    folder: str
    seed: int
    stages: int
    scenes_per_stage: int
    moves_per_scene: int
    frames: int
    detail_frames: int
    raster: tuple[int, int]
    heldout_scenes: int
    heldout_raster: tuple[int, int]
    hidden_size: int
    blocks: int
    mlp_ratio: float
    filter_width: int
    steps_per_stage: int
    batch_clips: int
    learning_rate: float
    betas: tuple[float, float]
    weight_decay: float
    ema: float
    clip_norm: float
    one_step_share: float
    evaluate_every: int
    save_every_s: float

    @property
    def steps(self) -> int:
        return self.stages * self.steps_per_stage

    @classmethod
    def load(cls, path: Path) -> DetailConfig:
        """Read a configuration file. Raises ValueError with a sentence when it does not fit."""
        record = json.loads(path.read_text())
        known = {field.name for field in fields(cls)}
        if set(record) != known:
            wrong = ", ".join(sorted(set(record) ^ known))
            raise ValueError(f"{path} must name every setting once and nothing else; look at: {wrong}.")
        record["folder"] = str((path.parent / record["folder"]).resolve())
        config = cls(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        )
        if config.frames % 8 != 1:
            raise ValueError(f"frames must be 8k + 1, not {config.frames}.")
        if any(side % 8 for side in (*config.raster, *config.heldout_raster)):
            raise ValueError("The sides of both rasters must be multiples of 8.")
        return config
