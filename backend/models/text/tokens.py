# SPDX-License-Identifier: GPL-3.0-or-later
"""Prompt -> token numbers, with no padding."""

from __future__ import annotations

from pathlib import Path

_BEGIN = "<bos>"


class Tokens:
    """A Gemma tokenizer. Every text gets the beginning-of-sequence token in front."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: with the tokenizer.json of the text encoder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is no Gemma tokenizer.
        """
        # Loaded here, so that prompts from the cache need no tokenizer library.
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"There is no tokenizer.json in {folder}.")
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._begin = self._tokenizer.token_to_id(_BEGIN)
        if self._begin is None:
            raise ValueError(
                f"The tokenizer in {folder} has no {_BEGIN} token; choose the one of the text encoder."
            )

    def encode(self, text: str) -> list[int]:
        """The whole text, at least one token long."""
        return [self._begin, *self._tokenizer.encode(text, add_special_tokens=False).ids]


def tokenizer_folder(encoder: Path) -> Path:
    """Where a text encoder's tokenizer lies: beside it in the diffusers library's layout, else in its own folder."""
    beside = encoder.parent / "tokenizer"
    return beside if not (encoder / "tokenizer.json").exists() and beside.is_dir() else encoder
