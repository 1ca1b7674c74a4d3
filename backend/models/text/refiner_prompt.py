# SPDX-License-Identifier: GPL-3.0-or-later
"""Prompts of the refiner: every hidden state of Gemma-3, packed into one token by the video connector."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from .connector import VideoConnector, normalized
from .gemma import Gemma, OnLayer
from .tokens import Tokens

REFINER_TOKENS = 1024


def encode_refiner_prompt(
    prompt: str,
    encoder: str | Path,
    tokenizer: str | Path,
    connectors: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    tokens: int = REFINER_TOKENS,
    on_layer: OnLayer | None = None,
) -> Tensor:
    """A prompt, without any instruction -> (1, tokens, channels) in `dtype`, all of which count.

    Args:
        encoder: folder of Gemma-3-12B, multimodal or its text half alone.
        tokenizer: folder of its tokenizer.
        connectors: folder of the refiner's text connectors.
        dtype: of the computation and of the result; normalization and the projection of the states are in fp32.
        on_layer: is called with (layers done, layers); what it raises ends the run.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the folders hold something else.
    """
    connector = VideoConnector(Path(connectors))
    gemma = Gemma(Path(encoder), "gemma3_text")
    if (gemma.channels, gemma.layers + 1) != (connector.channels, connector.states):
        raise ValueError(
            f"The text encoder in {encoder} gives {gemma.layers + 1} states of {gemma.channels} channels, but the "
            f"connectors in {connectors} take {connector.states} of {connector.channels}."
        )
    ids = Tokens(Path(tokenizer)).encode(prompt.strip())[:tokens]
    # Where the tokens stand behind the padding of the released pipeline, so that bf16 rounds as it does there.
    first = tokens - len(ids)
    packed = packed_states(gemma, ids, torch.device(device), dtype, first, on_layer)
    return connector.connect(connector.project(packed), tokens, dtype)


def packed_states(
    gemma: Gemma,
    ids: list[int],
    device: torch.device,
    dtype: torch.dtype,
    first: int = 0,
    on_layer: OnLayer | None = None,
) -> Tensor:
    """All hidden states of n tokens, each normalized -> (n, channels, layers + 1) fp32. See `Gemma.run`."""
    packed = torch.empty(len(ids), gemma.channels, gemma.layers + 1, device=device)

    def keep(index: int, states: Tensor) -> None:
        packed[:, :, index] = normalized(states)

    keep(gemma.layers, gemma.run(ids, device, dtype, first, keep, on_layer))
    return packed
