# SPDX-License-Identifier: GPL-3.0-or-later
"""The text half of a Gemma folder, run with one decoder layer's weights in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoint import Entry, file_entries, fill, read_config, require_match

_WHAT = "text encoder"

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

        settings = read_config(folder, _WHAT)
        settings = settings.get("text_config", settings)
        if settings.get("model_type") != kind:
            raise ValueError(f"{folder} holds a model of the kind {settings.get('model_type')}, not {kind}.")
        configuration, self._model = {
            "gemma2": (Gemma2Config, Gemma2Model),
            "gemma3_text": (Gemma3TextConfig, Gemma3TextModel),
        }[kind]
        self._folder, self._entries = folder, _text_entries(folder)
        self._config = configuration.from_dict(settings)
        self.layers: int = self._config.num_hidden_layers
        self.channels: int = self._config.hidden_size
        require_match(self._entries, self._without_weights(), _WHAT)

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
        rows, local_ids = torch.tensor(ids, device=device).unique(return_inverse=True)
        _keep_rows(model.embed_tokens, rows.cpu(), self._entries["embed_tokens.weight"], dtype)
        fill(model.norm, {"weight": self._entries["norm.weight"]}, device, lambda _: dtype)
        for module in (model.embed_tokens, model.rotary_emb):
            module.to(device)

        def load(index: int, layer: nn.Module, inputs: tuple[Tensor]) -> None:
            if on_state is not None:
                on_state(index, inputs[0][0])
            prefix = f"layers.{index}."
            own = {
                name.removeprefix(prefix): entry
                for name, entry in self._entries.items()
                if name.startswith(prefix)
            }
            fill(layer, own, device, lambda _: dtype)

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


def _text_entries(folder: Path) -> dict[str, Entry]:
    """`language_model.model.`, `model.language_model.` and `model.` mean the same in front of a name."""
    entries = {}
    for name, entry in file_entries(folder, _WHAT).items():
        for prefix in ("model.", "language_model.", "model."):
            name = name.removeprefix(prefix)
        if not name.startswith(_UNUSED):
            entries[name] = entry
    return entries


def _keep_rows(embedding: nn.Embedding, rows: Tensor, table: Entry, dtype: torch.dtype) -> None:
    """Shrink the embedding to some rows of its mapped table: the whole of Gemma-3's would take 2 GB in bf16."""
    embedding.weight = nn.Parameter(table[1]()[rows].to(dtype), requires_grad=False)
    # It concerns gradients alone, and may lie outside the rows that are left.
    embedding.padding_idx = None
