# SPDX-License-Identifier: GPL-3.0-or-later
"""Prompts of stage 1: Gemma-2, the last hidden state behind a fixed instruction."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .gemma import Gemma, OnLayer
from .tokens import Tokens

STAGE1_TOKENS = 300

# What stage 1 was trained with in front of every prompt; the user's text follows the last character.
CHI_PROMPT = "\n".join(
    (
        'Given a user prompt, generate an "Enhanced prompt" that provides detailed visual descriptions suitable for '
        "image generation. Evaluate the level of detail in the user prompt:",
        "- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial "
        "relationships to create vivid and concrete scenes.",
        "- If the prompt is already detailed, refine and enhance the existing details slightly without "
        "overcomplicating.",
        "Here are examples of how to transform or refine prompts:",
        "- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, sleeping "
        "peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.",
        "- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing "
        "street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus passing by towering "
        "glass skyscrapers.",
        "Please generate only the enhanced description for the prompt below and avoid including any additional "
        "commentary or evaluations:",
        "User Prompt: ",
    )
)


class Stage1Prompt(NamedTuple):
    """
    Attributes:
        states: (1, 1, tokens, channels), zeros where there is no token.
        mask: (1, tokens), 1 for tokens that count.
    """

    states: Tensor
    mask: Tensor


def encode_stage1_prompt(
    prompt: str,
    encoder: str | Path,
    tokenizer: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    tokens: int = STAGE1_TOKENS,
    on_layer: OnLayer | None = None,
) -> Stage1Prompt:
    """A prompt behind the instruction: the first and the last `tokens` - 1 positions of what Gemma-2 makes of both.

    Args:
        encoder: folder of Gemma-2-2b-it.
        tokenizer: folder of its tokenizer.
        dtype: of the computation and of the result.
        on_layer: is called with (layers done, layers); what it raises ends the run.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the folders hold something else.
    """
    vocabulary = Tokens(Path(tokenizer))
    # Two fewer: the beginning is counted twice, and the instruction's last blank joins the prompt's first word.
    positions = len(vocabulary.encode(CHI_PROMPT)) + tokens - 2
    ids = vocabulary.encode(CHI_PROMPT + prompt)[:positions]
    whole = _encode(ids, positions, encoder, device, dtype, on_layer)
    select = [0, *range(positions - tokens + 1, positions)]
    return Stage1Prompt(whole.states[:, :, select], whole.mask[:, select])


def encode_stage1_negative(
    prompt: str,
    encoder: str | Path,
    tokenizer: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    tokens: int = STAGE1_TOKENS,
    on_layer: OnLayer | None = None,
) -> Stage1Prompt:
    """What the clip shall not show, "" for nothing: without the instruction. Arguments as in `encode_stage1_prompt`."""
    ids = Tokens(Path(tokenizer)).encode(prompt)[:tokens]
    return _encode(ids, tokens, encoder, device, dtype, on_layer)


def _encode(
    ids: list[int],
    positions: int,
    encoder: str | Path,
    device: str | torch.device,
    dtype: torch.dtype,
    on_layer: OnLayer | None,
) -> Stage1Prompt:
    """Runs the tokens alone: padding stands to their right, where a causal model does not look."""
    states = Gemma(Path(encoder), "gemma2").run(ids, torch.device(device), dtype, on_layer=on_layer)
    padded = states.new_zeros(positions, states.shape[1])
    padded[: len(ids)] = states
    mask = (torch.arange(positions, device=states.device) < len(ids)).long()
    return Stage1Prompt(padded[None, None], mask[None])
