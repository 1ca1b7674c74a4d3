# SPDX-License-Identifier: GPL-3.0-or-later
"""The small JSON files in a weights folder: one table each, by id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import atomic
from .errors import ProtocolError

_SCHEMA = 1


def read_table(path: Path, name: str, remedy: str) -> dict[str, Any]:
    """The table of this name; empty if there is no file yet.

    Args:
        remedy: what to do about a damaged file; ends the sentence.

    Raises:
        ProtocolError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        record = atomic.read_json(path)
    except ProtocolError:
        record = None
    is_whole = isinstance(record, dict) and record.get("schema") == _SCHEMA
    if not is_whole or not isinstance(record.get(name), dict):
        raise ProtocolError(f"{path} is damaged; {remedy}.")
    return record[name]


def write_table(path: Path, name: str, table: dict[str, Any]) -> None:
    atomic.write_json(path, {"schema": _SCHEMA, name: table})
