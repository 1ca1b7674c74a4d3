# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights that ship with the extension; README.md beside this file is their model card."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...models.embedded import EmbeddedConfig, EmbeddedModel
from ...models.vae import LinearCodec

FOLDER = Path(__file__).parent
FILES = ("config.json", "codec.safetensors", "stage1.safetensors", "filter.safetensors")
BIDIRECTIONAL = "bidirectional"


def files(variant: str, folder: Path = FOLDER) -> list[Path]:
    """What a variant consists of: FILES, but a network of its own if the folder has one."""
    own = folder / f"stage1_{variant}.safetensors"
    return [own if name == "stage1.safetensors" and own.exists() else folder / name for name in FILES]


def load_embedded(
    device: torch.device | str = "cpu", folder: Path = FOLDER, variant: str = BIDIRECTIONAL
) -> EmbeddedModel:
    """The embedded model, float32, in evaluation mode, with the variant's network or else the bidirectional one.

    Raises:
        FileNotFoundError: one of its files is missing.
        RuntimeError: a file does not fit the configuration.
    """
    config, codec, stage1, pixel_filter = files(variant, folder)
    model = EmbeddedModel(EmbeddedConfig.from_record(json.loads(config.read_text())))
    model.codec = LinearCodec.load(codec)
    model.stage1.load_state_dict(load_file(stage1))
    model.filter.load_state_dict(load_file(pixel_filter))
    return model.float().to(device).eval().requires_grad_(False)


def save_embedded(model: EmbeddedModel, folder: Path) -> None:
    """Write all FILES; networks of other variants that lie there are of another model, and are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.glob("stage1_*.safetensors"):
        other.unlink()
    save_file(_halved(model.stage1.state_dict()), folder / "stage1.safetensors")
    for name, module in (("codec", model.codec), ("filter", model.filter)):
        tensors = {key: tensor.detach().contiguous() for key, tensor in module.state_dict().items()}
        save_file(tensors, folder / f"{name}.safetensors")
    _save_config(model.config, folder)


def add_variant(network: dict[str, Tensor], variant: str, folder: Path) -> None:
    """Give a variant, "chunk_causal" or "streaming", a network of its own beside the others.

    Raises:
        ValueError: the network is not of the sizes of those in the folder.
    """
    model = load_embedded(folder=folder)
    wanted = {name: tensor.shape for name, tensor in model.stage1.state_dict().items()}
    if {name: tensor.shape for name, tensor in network.items()} != wanted:
        raise ValueError(
            f"The network for {variant} has other sizes than the one in {folder}; train it from that one."
        )
    save_file(_halved(network), folder / f"stage1_{variant}.safetensors")
    trained = dict.fromkeys((*model.config.trained_variants, variant))
    _save_config(replace(model.config, trained_variants=tuple(trained)), folder)


def file_hashes(variant: str = BIDIRECTIONAL, folder: Path = FOLDER) -> dict[str, str]:
    """SHA-256 of every file of a variant, for the provenance of a clip."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files(variant, folder)}


def _halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """In half precision, in which the network loses nothing visible."""
    return {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}


def _save_config(config: EmbeddedConfig, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(config.to_record(), indent=2) + "\n")
