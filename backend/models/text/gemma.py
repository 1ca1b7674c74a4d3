# SPDX-License-Identifier: GPL-3.0-or-later
"""The text half of a Gemma folder, run with one decoder layer's weights in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .weight_files import Weights, check, fill, opened, read_config

OnState = Callable[[int, Tensor], None]
OnLayer = Callable[[int, int], None]

# What a multimodal or generating model has beside the text half.
_UNUSED = ("vision_tower.", "multi_modal_projector.", "lm_head.")


class Gemma:
    """A Gemma-2 or Gemma-3 folder whose weights fit its configuration; they stay on disk until `run`.

    Attributes:
        layers: number of decoder layers.
        channels: of a hidden state.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        """
        Args:
            folder: config.json and .safetensors files, of a text-only or a multimodal model.
            kind: "gemma2" or "gemma3_text".

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the folder holds another model, or weights that do not fit its configuration.
        """
        # Loaded here, so that prompts from the cache need no model library.
        from transformers import Gemma2Config, Gemma2Model, Gemma3TextConfig, Gemma3TextModel

        settings = read_config(folder)
        settings = settings.get("text_config", settings)
        if settings.get("model_type") != kind:
            raise ValueError(f"{folder} holds a model of the kind {settings.get('model_type')}, not {kind}.")
        configuration, self._model = {
            "gemma2": (Gemma2Config, Gemma2Model),
            "gemma3_text": (Gemma3TextConfig, Gemma3TextModel),
        }[kind]
        self._folder = folder
        self._config = configuration.from_dict(settings)
        self.layers: int = self._config.num_hidden_layers
        self.channels: int = self._config.hidden_size
        with opened(folder, _text_name) as weights:
            check(weights, self._without_weights(), folder)

    @torch.no_grad()
    def run(
        self,
        ids: list[int],
        device: torch.device,
        dtype: torch.dtype,
        first: int = 0,
        on_state: OnState | None = None,
        on_layer: OnLayer | None = None,
    ) -> Tensor:
        """Hidden states (n, channels) after the final norm, for n tokens without padding.

        Args:
            first: position of the first token. Only distances count, but a small dtype rounds by position.
            on_state: is given the index of every layer and the states (n, channels) that enter it.
            on_layer: is called with (layers done, layers); what it raises ends the run.

        Raises:
            ValueError: a token is none of this model's.
        """
        if max(ids) >= self._config.vocab_size:
            raise ValueError(
                f"The tokenizer gives token {max(ids)}, but the model in {self._folder} has "
                f"{self._config.vocab_size}; choose the tokenizer of this text encoder."
            )
        model = self._without_weights()
        with opened(self._folder, _text_name) as weights:
            rows, local_ids = torch.tensor(ids, device=device).unique(return_inverse=True)
            _keep_rows(model.embed_tokens, rows.tolist(), weights, dtype)
            fill(model.norm, "norm.", weights, device, dtype)
            for module in (model.embed_tokens, model.rotary_emb):
                module.to(device)

            def load(index: int, layer: nn.Module, inputs: tuple[Tensor]) -> None:
                if on_state is not None:
                    on_state(index, inputs[0][0])
                fill(layer, f"layers.{index}.", weights, device, dtype)

            def unload(index: int, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
                layer.to("meta")
                if on_layer is not None:
                    on_layer(index + 1, self.layers)

            for index, layer in enumerate(model.layers):
                layer.register_forward_pre_hook(partial(load, index))
                layer.register_forward_hook(partial(unload, index))
            positions = torch.arange(first, first + len(ids), device=device)
            output = model(input_ids=local_ids[None], position_ids=positions[None], use_cache=False)
            return output.last_hidden_state[0]

    def _without_weights(self) -> nn.Module:
        """The library's module, with its parameters on the meta device and its few buffers in memory."""
        from accelerate import init_empty_weights

        with init_empty_weights(include_buffers=False):
            return self._model(self._config).eval()


def _text_name(key: str) -> str | None:
    """`language_model.model.`, `model.language_model.` and `model.` mean the same in front of a name."""
    for prefix in ("model.", "language_model.", "model."):
        key = key.removeprefix(prefix)
    return None if key.startswith(_UNUSED) else key


def _keep_rows(embedding: nn.Embedding, rows: list[int], weights: Weights, dtype: torch.dtype) -> None:
    """Shrink the embedding to some rows of its table: the whole of Gemma-3's would take 2 GB in bf16."""
    table = weights["embed_tokens.weight"]
    kept = torch.cat([table[row : row + 1] for row in rows]).to(dtype)
    embedding.weight = nn.Parameter(kept, requires_grad=False)
    # It concerns gradients alone, and may lie outside the rows that are left.
    embedding.padding_idx = None
