# SPDX-License-Identifier: GPL-3.0-or-later
"""Text encoders, tokenizer and connectors of the released layouts, so small that they run in milliseconds.

Every writer returns the library's own model, with the weights that it wrote.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    PreTrainedTokenizerFast,
)

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
WORDS = tuple(
    "a the cat dog house street sleeping walking red blue slowly camera moves forward left right of in User "
    "Prompt: prompt image".split()
)
# Where a Gemma-3 of the library's has what the released files call otherwise.
_RELEASED = {
    "model.language_model.": "language_model.model.",
    "model.vision_tower.": "vision_tower.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}


def write_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Words between blanks; everything else is <unk>. Pads on the left unless told otherwise, as Gemma's does."""
    vocabulary = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 2)])
    names = dict(zip(("pad_token", "eos_token", "bos_token", "unk_token"), SPECIAL, strict=True))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **names)
    wrapped.save_pretrained(folder)
    return wrapped


def write_gemma2(
    folder: Path, tokenizer_folder: Path | None = None, channels: int = 20, layers: int = 2
) -> Gemma2Model:
    """A Gemma-2 folder with its tokenizer, in the tokenizer's own folder if one is given."""
    config = Gemma2Config(
        architectures=["Gemma2ForCausalLM"],
        vocab_size=64,
        hidden_size=channels,
        intermediate_size=2 * channels,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=16,
        max_position_embeddings=512,
    )
    model = _randomized(Gemma2Model(config), seed=1)
    config.save_pretrained(folder)
    write_shards(folder, {f"model.{name}": tensor for name, tensor in model.state_dict().items()}, shards=1)
    write_tokenizer(tokenizer_folder or folder)
    return model


def write_gemma3(
    folder: Path,
    tokenizer_folder: Path | None = None,
    channels: int = 24,
    layers: int = 3,
    sliding_window: int = 16,
    shards: int = 3,
) -> Gemma3ForConditionalGeneration:
    """A multimodal Gemma-3 folder with the released names and its tokenizer, in its own folder if one is given.

    Every third layer sees the whole text, the others `sliding_window` tokens.
    """
    config = Gemma3Config(
        architectures=["Gemma3ForConditionalGeneration"],
        text_config={
            "vocab_size": 64,
            "hidden_size": channels,
            "intermediate_size": 2 * channels,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": sliding_window,
            "sliding_window_pattern": 3,
            "max_position_embeddings": 256,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
        image_token_index=63,
        boi_token_index=61,
        eoi_token_index=62,
    )
    model = _randomized(Gemma3ForConditionalGeneration(config), seed=2)
    config.save_pretrained(folder)
    write_shards(folder, released_names(model.state_dict()), shards)
    write_tokenizer(tokenizer_folder or folder)
    return model


def write_connectors(
    folder: Path, channels: int = 24, states: int = 4, heads: int = 2, layers: int = 1, registers: int = 8
) -> LTX2TextConnectors:
    """A connectors folder as the library saves it, the audio half included."""
    halves = {}
    for half in ("video", "audio"):
        halves |= {
            f"{half}_connector_num_attention_heads": heads,
            f"{half}_connector_attention_head_dim": channels // heads,
            f"{half}_connector_num_layers": layers,
            f"{half}_connector_num_learnable_registers": registers,
        }
    model = LTX2TextConnectors(
        caption_channels=channels, text_proj_in_factor=states, rope_type="split", **halves
    )
    _randomized(model, seed=3).save_pretrained(folder)
    return model


def write_shards(folder: Path, tensors: Mapping[str, torch.Tensor], shards: int) -> None:
    """One file, or several and their index. Tensors go to the shards in turn, as nothing may depend on their place."""
    folder.mkdir(parents=True, exist_ok=True)
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors")
        return
    places = {
        name: f"model-{index % shards + 1:05}-of-{shards:05}.safetensors"
        for index, name in enumerate(tensors)
    }
    for file in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == file}, folder / file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def released_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A library Gemma-3's tensors under the names of the released files, which leave out the tied output layer."""
    renamed = {}
    for name, tensor in state.items():
        for ours, theirs in _RELEASED.items():
            if name.startswith(ours):
                renamed[theirs + name.removeprefix(ours)] = tensor
    return renamed


@torch.no_grad()
def _randomized(model: torch.nn.Module, seed: int) -> Any:
    """Weights large enough that every part of the model shows in the result."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval().requires_grad_(False)
