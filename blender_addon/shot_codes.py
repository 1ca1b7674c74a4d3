# SPDX-License-Identifier: GPL-3.0-or-later
"""Codes of shots, such as 010_0030: the one after another, and names that say nothing about a shot. No bpy here."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

# Blender's own names of markers, strips and scenes.
_UNNAMED = re.compile(r"|F_\d+|(Marker|Scene)([._]\d+)?")
_NUMBERED = re.compile(r"\d\d$")
_BEFORE_THE_FIRST = "010_0000"


def is_unnamed(label: str) -> bool:
    """Whether Blender gave the name and no person did."""
    return _UNNAMED.fullmatch(label.strip()) is not None


def next_code(code: str, taken: Collection[str]) -> str:
    """The code after this one: 010_0020 after 010_0010, until one is free; shot_2 after shot."""
    digits = len(code) - len(code.rstrip("0123456789"))
    number, width = int(code[-digits:]) if digits else 1, digits
    stem = code[: len(code) - digits] if digits else f"{code}_"
    step = 10 if digits > 1 and number % 10 == 0 else 1
    while True:
        number += step
        candidate = f"{stem}{number:0{width}d}"
        if candidate not in taken:
            return candidate


def proposed(before: Iterable[str], taken: Collection[str]) -> str:
    """A free code for a shot without a name, which follows the last numbered one `before` it; or 010_0010."""
    numbered = [code for code in before if _NUMBERED.search(code)]
    return next_code(numbered[-1] if numbered else _BEFORE_THE_FIRST, taken)
