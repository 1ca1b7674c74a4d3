# SPDX-License-Identifier: GPL-3.0-or-later
"""The video half of the LTX-2 text connectors: all hidden states of Gemma-3 -> what the refiner attends to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoint import file_entries, fill, read_config, require_match

_WHAT = "text connectors"
_PROJECTION = "text_proj_in.weight"
_ROWS_AT_A_TIME = 128
_SCALE = 8.0
_EPSILON = 1e-6
# Settings of the connectors of LTX-2.0, and their values where a configuration does not mention them.
_REQUIRED = {
    "rope_type": ("split", "interleaved"),
    "per_modality_projections": (False, False),
    "proj_bias": (False, False),
    "video_gated_attn": (False, False),
    "causal_temporal_positioning": (False, False),
}


def normalized(states: Tensor) -> Tensor:
    """One layer's hidden states (n, C) of the n tokens that count -> (n, C) fp32, centred, of range 8."""
    states = states.float()
    return (states - states.mean()) * (_SCALE / (states.max() - states.min() + _EPSILON))


class VideoConnector:
    """A connectors folder whose weights fit its configuration; they stay on disk until they are needed.

    Attributes:
        channels: of a token, before and after.
        states: how many hidden states a token has.
    """

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: config.json and .safetensors files, with or without the audio half.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the connectors are of another kind, or their weights do not fit their configuration.
        """
        config = read_config(folder, _WHAT)
        for key, (required, default) in _REQUIRED.items():
            if config.get(key, default) != required:
                raise ValueError(
                    f"The text connectors in {folder} have {key} = {config.get(key, default)}, but those of the "
                    f"SANA-WM refiner have {required}; choose the refiner's connectors."
                )
        self._config = config
        self.channels: int = config["caption_channels"]
        self.states: int = config["text_proj_in_factor"]
        self._entries = {
            name: entry
            for name, entry in file_entries(folder, _WHAT).items()
            if not name.startswith("audio_connector.")
        }
        require_match(self._entries, self._without_weights(), _WHAT)

    @torch.no_grad()
    def project(self, packed: Tensor) -> Tensor:
        """`text_proj_in`: normalized hidden states (n, channels, states) -> (n, channels) fp32.

        The matrix is read once, some rows at a time: it has 720 million values.
        """
        flat = packed.flatten(1)
        matrix = self._entries[_PROJECTION][1]()
        parts = [flat @ rows.to(flat.device, flat.dtype).T for rows in matrix.split(_ROWS_AT_A_TIME)]
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def connect(self, projected: Tensor, tokens: int, dtype: torch.dtype) -> Tensor:
        """Projected tokens (n, channels), n <= tokens -> (1, tokens, channels) in `dtype`, all of which count.

        Learned registers fill the places behind the n tokens.

        Raises:
            ValueError: `tokens` is no multiple of the number of registers.
        """
        registers = self._config["video_connector_num_learnable_registers"]
        if tokens % registers:
            raise ValueError(
                f"The text connectors have {registers} registers, so the prompt's length must be a multiple of "
                f"that, not {tokens}."
            )
        count, device = len(projected), projected.device
        padded = projected.new_zeros(1, tokens, self.channels, dtype=dtype)
        padded[0, :count] = projected
        mask = padded.new_zeros(1, 1, 1, tokens)
        mask[..., count:] = torch.finfo(dtype).min
        entries = {name: entry for name, entry in self._entries.items() if name != _PROJECTION}
        model = fill(self._without_weights(), entries, device, lambda _: dtype)
        return model["video_connector"](padded, mask)[0]

    def _without_weights(self) -> nn.ModuleDict:
        # Loaded here, so that prompts from the cache need no model library.
        from diffusers.pipelines.ltx2.connectors import LTX2ConnectorTransformer1d

        config: dict[str, Any] = self._config
        with torch.device("meta"):
            return nn.ModuleDict(
                {
                    "text_proj_in": nn.Linear(self.channels * self.states, self.channels, bias=False),
                    "video_connector": LTX2ConnectorTransformer1d(
                        num_attention_heads=config["video_connector_num_attention_heads"],
                        attention_head_dim=config["video_connector_attention_head_dim"],
                        num_layers=config["video_connector_num_layers"],
                        num_learnable_registers=config["video_connector_num_learnable_registers"],
                        rope_base_seq_len=config["connector_rope_base_seq_len"],
                        rope_theta=config["rope_theta"],
                        rope_double_precision=config["rope_double_precision"],
                        rope_type=config["rope_type"],
                    ),
                }
            )
