# SPDX-License-Identifier: GPL-3.0-or-later
"""The text models at their released sizes: every tensor's name and shape, in files that hold none of the bytes."""

import json
import math
from pathlib import Path

import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from backend.models.text.connector import VideoConnector
from backend.models.text.gemma import Gemma

GEMMA3 = {
    "vocab_size": 262208, "hidden_size": 3840, "intermediate_size": 15360, "num_hidden_layers": 48,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "sliding_window": 1024,
    "model_type": "gemma3_text",
}  # fmt: skip


def write_hollow(folder: Path, config: dict, model: torch.nn.Module) -> Path:
    """A checkpoint of the model's size whose bytes the disk does not have: they read as zeros."""
    header, end = {}, 0
    for name, tensor in model.state_dict().items():
        size = 2 * tensor.numel()
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    folder.mkdir()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def inventory(entries) -> tuple[int, int]:
    return len(entries), sum(math.prod(shape) for shape, _ in entries.values())


def test_the_text_half_of_gemma_3_12b(tmp_path):
    with torch.device("meta"):
        model = Gemma3ForConditionalGeneration(Gemma3Config(text_config=GEMMA3))
    model.tie_weights()
    gemma = Gemma(write_hollow(tmp_path / "gemma3", {"text_config": GEMMA3}, model), "gemma3_text")
    assert inventory(gemma._entries) == (626, 11_766_034_176)
    layer = {name: entry for name, entry in gemma._entries.items() if name.startswith("layers.7.")}
    assert inventory(layer) == (13, 224_148_992), "what is in memory at a time"


def test_gemma_2_2b(tmp_path):
    config = Gemma2Config()
    with torch.device("meta"):
        model = Gemma2ForCausalLM(config)
    gemma = Gemma(write_hollow(tmp_path / "gemma2", config.to_dict(), model), "gemma2")
    assert inventory(gemma._entries)[1] == 2_614_341_888 and gemma.channels == 2304


def test_the_video_half_of_the_connectors(tmp_path):
    with torch.device("meta"):
        model = LTX2TextConnectors(rope_type="split")
    whole = sum(tensor.numel() for tensor in model.state_dict().values())
    connector = VideoConnector(write_hollow(tmp_path / "connectors", dict(model.config), model))
    assert (len(model.state_dict()), whole) == (59, 1_431_475_200)
    assert inventory(connector._entries) == (30, 1_077_004_800)
