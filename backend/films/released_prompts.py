# SPDX-License-Identifier: GPL-3.0-or-later
"""The prompts of a shot as the released model reads them: from the cache, or encoded once and kept there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..models.text import (
    REFINER_TOKENS,
    STAGE1_TOKENS,
    PromptCache,
    Stage1Prompt,
    encode_refiner_prompt,
    encode_stage1_negative,
    encode_stage1_prompt,
)
from ..models.text.tokens import tokenizer_folder
from ..protocol import ProtocolError, Shot
from ..protocol.weights_folder import find
from ..protocol.weights_ready import TEXT_ENCODERS
from ..protocol.weights_registry import COMPONENTS


@dataclass(frozen=True)
class Encoded:
    """
    Attributes:
        positive, negative: of stage 1; the negative one None without guidance.
        refiner: (1, tokens, channels); None without the refiner.
    """

    positive: Stage1Prompt
    negative: Stage1Prompt | None
    refiner: Tensor | None


class Prompts:
    """Encodes prompts, one encoder after the other, and remembers them on the disk.

    Args:
        weights: the folder that encoders are looked for in when they are needed, and that has the cache.
        places: where the other parts of the model lie.
    """

    def __init__(
        self,
        weights: Path,
        places: Mapping[str, Path],
        device: str,
        dtype: torch.dtype,
    ) -> None:
        self._cache, self._weights, self._places = PromptCache(weights / "prompts"), weights, places
        self._device, self._dtype = device, dtype

    def require(self, shot: Shot) -> None:
        """Every prompt is in the cache, or its encoder is there.

        Raises:
            ProtocolError: one sentence.
        """
        for kind, prompt in self._wanted(shot):
            if self._encoder(kind) is None and self._load(kind, prompt) is None:
                title = COMPONENTS[_encoder_id(kind)].title
                raise ProtocolError(
                    f"The prompt of {shot.code} was not encoded before, and {title}, is not in "
                    "the weights folder; download it, or use a prompt that is in the weights folder's prompts."
                )

    def encoded(self, shot: Shot, on_layer: Callable[[int, int], None]) -> Encoded:
        """All that the shot needs, on the device. No encoder stays in memory."""
        found = {kind: self._one(kind, prompt, on_layer) for kind, prompt in self._wanted(shot)}
        negative = found.get("stage1-negative")
        return Encoded(
            Stage1Prompt(**found["stage1"]),
            None if negative is None else Stage1Prompt(**negative),
            found["refiner"]["text"] if "refiner" in found else None,
        )

    def _wanted(self, shot: Shot) -> list[tuple[str, str]]:
        wanted = [("stage1", shot.prompt)]
        if shot.preset.guidance != 1:
            wanted.append(("stage1-negative", shot.negative_prompt))
        if shot.preset.refiner:
            wanted.append(("refiner", shot.prompt.strip()))
        return wanted

    def _one(self, kind: str, prompt: str, on_layer: Callable[[int, int], None]) -> dict[str, Tensor]:
        tensors = self._load(kind, prompt)
        if tensors is None:
            try:
                tensors = self._encode(kind, prompt, on_layer)
            except (OSError, ValueError) as error:
                raise ProtocolError(str(error)) from error
            self._cache.save(kind, prompt, self._key(kind), tensors)
        return {name: tensor.to(self._device) for name, tensor in tensors.items()}

    def _encode(self, kind: str, prompt: str, on_layer: Callable[[int, int], None]) -> dict[str, Tensor]:
        settings = {"device": self._device, "dtype": self._dtype, "on_layer": on_layer}
        encoder = self._encoder(kind)
        tokenizer = tokenizer_folder(encoder)
        if kind == "refiner":
            text = encode_refiner_prompt(
                prompt, encoder, tokenizer, self._places[self._connectors], **settings
            )
            return {"text": text}
        encode = encode_stage1_prompt if kind == "stage1" else encode_stage1_negative
        return encode(prompt, encoder, tokenizer, **settings)._asdict()

    def _encoder(self, kind: str) -> Path | None:
        return find(self._weights, _encoder_id(kind))

    def _load(self, kind: str, prompt: str) -> dict[str, Tensor] | None:
        try:
            return self._cache.load(kind, prompt, self._key(kind))
        except ValueError as error:
            raise ProtocolError(str(error)) from error

    def _key(self, kind: str) -> dict[str, str]:
        """By the published parts, so that a prompt can be handed to somebody who has no text encoder."""
        parts, tokens = ["gemma_2_2b"], STAGE1_TOKENS
        if kind == "refiner":
            parts, tokens = ["gemma_3_12b", self._connectors], REFINER_TOKENS
        published = {id: f"{COMPONENTS[id].repository} {COMPONENTS[id].revision}" for id in parts}
        return {**published, "dtype": str(self._dtype), "tokens": str(tokens)}

    @property
    def _connectors(self) -> str:
        return next(id for id in self._places if id.startswith("connectors"))


def _encoder_id(kind: str) -> str:
    return TEXT_ENCODERS[kind == "refiner"]
