# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights that ship with the extension; README.md beside this file is their model card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ...models.embedded import EmbeddedConfig, EmbeddedModel
from ...models.vae import LinearCodec

FOLDER = Path(__file__).parent
FILES = ("config.json", "codec.safetensors", "stage1.safetensors", "filter.safetensors")


def load_embedded(device: torch.device | str = "cpu", folder: Path = FOLDER) -> EmbeddedModel:
    """The embedded model, float32, in evaluation mode.

    Raises:
        FileNotFoundError: one of FILES is missing.
        RuntimeError: a file does not fit the configuration.
    """
    config = EmbeddedConfig.from_record(json.loads((folder / "config.json").read_text()))
    model = EmbeddedModel(config)
    model.codec = LinearCodec.load(folder / "codec.safetensors")
    model.stage1.load_state_dict(load_file(folder / "stage1.safetensors"))
    model.filter.load_state_dict(load_file(folder / "filter.safetensors"))
    return model.float().to(device).eval().requires_grad_(False)


def save_embedded(model: EmbeddedModel, folder: Path) -> None:
    """Write all FILES; the stage-1 network in half precision, in which it loses nothing visible."""
    folder.mkdir(parents=True, exist_ok=True)
    halved = {name: tensor.detach().half().contiguous() for name, tensor in model.stage1.state_dict().items()}
    save_file(halved, folder / "stage1.safetensors")
    for name, module in (("codec", model.codec), ("filter", model.filter)):
        tensors = {key: tensor.detach().contiguous() for key, tensor in module.state_dict().items()}
        save_file(tensors, folder / f"{name}.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config.to_record(), indent=2) + "\n")


def file_hashes(folder: Path = FOLDER) -> dict[str, str]:
    """SHA-256 of every one of FILES, for the provenance of a clip."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
