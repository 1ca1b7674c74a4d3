# SPDX-License-Identifier: GPL-3.0-or-later
"""Prompts to tensors: for stage 1 and for the refiner, each with its own text encoder, and a cache on disk.

Whatever an encoder loads is freed when its function returns.
"""

from .gemma import OnLayer
from .prompt_cache import PromptCache
from .refiner_prompt import REFINER_TOKENS, encode_refiner_prompt
from .stage1_prompt import STAGE1_TOKENS, Stage1Prompt, encode_stage1_negative, encode_stage1_prompt

__all__ = [
    "OnLayer",
    "PromptCache",
    "REFINER_TOKENS",
    "STAGE1_TOKENS",
    "Stage1Prompt",
    "encode_refiner_prompt",
    "encode_stage1_negative",
    "encode_stage1_prompt",
]
