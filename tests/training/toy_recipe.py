# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the embedded model's recipes at toy size."""

import dataclasses
import json
from pathlib import Path

from backend.training.config import RecipeConfig

TOY = {
    "folder": ".",
    "seed": 5,
    "scenes": 2,
    "moves_per_scene": 2,
    "frames": 9,
    "raster": [32, 16],
    "heldout_scenes": 1,
    "heldout_raster": [32, 16],
    "hidden_size": 32,
    "blocks": 4,
    "mlp_ratio": 1.0,
    "filter_width": 4,
    "steps": 6,
    "batch_clips": 2,
    "learning_rate": 0.001,
    "weight_decay": 0.01,
    "ema": 0.9,
    "clip_norm": 1.0,
    "filter_frames": 3,
    "one_step_share": 0.5,
    "evaluate_every": 3,
}


def configured(folder: Path, **changes) -> RecipeConfig:
    """A run in this folder, from a file."""
    path = folder / "toy.json"
    path.write_text(json.dumps({**TOY, **changes}))
    return RecipeConfig.load(path)


def elsewhere(config: RecipeConfig, folder: Path) -> RecipeConfig:
    """The same run with the same data, but checkpoints of its own."""
    folder.mkdir(exist_ok=True)
    for name in ("train", "heldout"):
        (folder / name).symlink_to(f"{config.folder}/{name}")
    return dataclasses.replace(config, folder=str(folder))
