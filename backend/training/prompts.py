# SPDX-License-Identifier: GPL-3.0-or-later
"""Captions as the text encoder's states: encoded once, kept beside the run, read when their clip is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..models.text import STAGE1_TOKENS, PromptCache, encode_stage1_negative, encode_stage1_prompt
from ..models.text.tokens import tokenizer_folder
from ..protocol import FileLock
from ..protocol.weights_folder import find
from ..protocol.weights_licences import unaccepted
from ..protocol.weights_ready import TEXT_ENCODERS
from ..protocol.weights_registry import COMPONENTS

_ENCODER = TEXT_ENCODERS[0]
_DTYPE = torch.bfloat16
_NOTHING = ("stage1-negative", "")


class ClipPrompts:
    """The captions of a run's clips, and the empty prompt.

    Args:
        weights: the folder that the text encoder is looked for in when a caption is new.
        folder: of the run; the states go into its folder `prompts`.
    """

    def __init__(self, weights: Path, folder: Path) -> None:
        self._weights, self._folder = weights, folder / "prompts"
        self._cache = PromptCache(self._folder)
        component = COMPONENTS[_ENCODER]
        self._ids = {
            _ENCODER: f"{component.repository} {component.revision}",
            "dtype": str(_DTYPE),
            "tokens": str(STAGE1_TOKENS),
        }

    def encode_missing(self, captions: Sequence[str], device: str) -> Iterator[str]:
        """Encode what is not there yet; of several processes one does it, and the others wait.

        Raises:
            ValueError: there is something to encode, but no text encoder that may be used.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / ".lock")
        while not lock.acquire():
            pass
        try:
            wanted = [_NOTHING, *dict.fromkeys(("stage1", caption) for caption in captions)]
            missing = [prompt for prompt in wanted if self._cache.load(*prompt, self._ids) is None]
            if missing:
                encoder = self._encoder(len(missing))
            for number, (kind, text) in enumerate(missing, start=1):
                encode = encode_stage1_negative if kind == _NOTHING[0] else encode_stage1_prompt
                states = encode(text, encoder, tokenizer_folder(encoder), device, _DTYPE)
                self._cache.save(kind, text, self._ids, states._asdict())
                yield f"prompt {number} of {len(missing)} encoded"
        finally:
            lock.release()

    def states(self, caption: str) -> tuple[Tensor, Tensor]:
        """(1,1,L,C) fp32 and mask (1,L)."""
        return self._read("stage1", caption)

    def nothing(self) -> tuple[Tensor, Tensor]:
        """The same for the empty prompt."""
        return self._read(*_NOTHING)

    def _read(self, kind: str, text: str) -> tuple[Tensor, Tensor]:
        found = self._cache.load(kind, text, self._ids)
        if found is None:
            raise ValueError(
                f"The encoded prompt {text!r} is not in {self._folder} any more; start the same command again."
            )
        return found["states"].float(), found["mask"].float()

    def _encoder(self, count: int) -> Path:
        title = COMPONENTS[_ENCODER].title
        place = find(self._weights, _ENCODER)
        if place is None:
            raise ValueError(
                f"{count} prompts are to be encoded, and {title} is not in {self._weights}; download it (python -m "
                f"backend weights download {_ENCODER}), or name the folder that has it as weights."
            )
        if unaccepted(self._weights, [_ENCODER]):
            raise ValueError(
                f"The licence of {title} was not accepted for {self._weights}; read and accept it with python -m "
                "backend weights accept."
            )
        return place
