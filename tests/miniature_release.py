# SPDX-License-Identifier: GPL-3.0-or-later
"""The released repositories, whole, in their own folders, with models so small that a clip takes seconds."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from backend.models.stage1 import Stage1Config, Stage1Transformer
from backend.protocol.weights_licences import LICENCES, accept
from tests.miniature_text import write_connectors, write_gemma2, write_gemma3
from tests.refiner_reference import CAPTION, CHANNELS, write_refiner
from tests.stage1_reference import randomize
from tests.vae_reference import write_vae

TEXT_WIDTH = 20  # of the stage-1 text encoder
STAGE1 = Stage1Config(
    in_channels=CHANNELS,
    out_channels=CHANNELS,
    num_layers=4,
    hidden_size=48,
    head_dim=24,
    num_cross_heads=2,
    caption_channels=TEXT_WIDTH,
)
STEPS = (1000, 960, 889, 727, 0)


def stage1_weights(seed: int) -> dict[str, torch.Tensor]:
    model = Stage1Transformer(STAGE1)
    randomize(model, seed)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def original_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As NVlabs spell them, dead buffers included."""
    renamed = {
        name.replace("t_embedder.linear_1", "t_embedder.mlp.0").replace(
            "t_embedder.linear_2", "t_embedder.mlp.2"
        ): tensor
        for name, tensor in weights.items()
    }
    return {**renamed, "pos_embed": torch.zeros(1, 4, 48), "y_embedder.y_embedding": torch.zeros(7, 20)}


def write_release(root: Path) -> Path:
    """All three releases and the text encoder beside them, under the names that they have on the hub."""
    bidirectional, streaming = root / "SANA-WM_bidirectional", root / "SANA-WM_streaming"
    for folder in (bidirectional / "dit", root / "SANA-WM_chunk_causal" / "dit", streaming / "sana_dit"):
        folder.mkdir(parents=True)
    save_file(original_names(stage1_weights(1)), bidirectional / "dit" / "sana_wm_1600m_720p.safetensors")
    save_file(
        original_names(stage1_weights(2)),
        root / "SANA-WM_chunk_causal" / "dit" / "sana_wm_chunk_causal_1600m_720p.safetensors",
    )
    generator = {f"model.{name}": tensor for name, tensor in original_names(stage1_weights(3)).items()}
    checkpoint = {"generator": generator, "step": 3, "denoising_step_list": list(STEPS)}
    torch.save(checkpoint, streaming / "sana_dit" / "model.pt")

    write_vae(bidirectional / "vae", CHANNELS, causal=False)
    write_vae(streaming / "ltx2_causal_vae", CHANNELS, causal=True, seed=3)
    write_refiner(bidirectional / "refiner" / "transformer", seed=4)
    write_refiner(streaming / "refiner_diffusers" / "transformer", seed=5)
    for folder in (bidirectional / "refiner" / "connectors", streaming / "refiner_diffusers" / "connectors"):
        write_connectors(folder, channels=CAPTION, states=4, registers=128)
    write_gemma3(bidirectional / "refiner" / "text_encoder", channels=CAPTION)
    write_gemma3(streaming / "gemma3_12b", channels=CAPTION)
    write_gemma2(root / "gemma-2-2b-it", channels=TEXT_WIDTH)
    return root


def accept_licences(root: Path) -> Path:
    accept(root, LICENCES)
    return root
