# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON objects to dataclasses, strictly: every name known, every type right."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

from .errors import ProtocolError

Record = TypeVar("Record")

_PLAIN = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def from_record(kind: type[Record], record: Any, what: str) -> Record:
    """Build the dataclass `kind` from a JSON object.

    Fields of type str, int, float and bool are checked; others are left to the dataclass.

    Raises:
        ProtocolError: a name is unknown or missing, or a value has the wrong type; `what` begins the
            sentence.
    """
    if not isinstance(record, dict):
        raise ProtocolError(f"{what} must be a JSON object.")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(record) - set(known))
    if unknown:
        raise ProtocolError(f"{what} has unknown entries: {', '.join(unknown)}.")
    required = (n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING)
    missing = sorted(set(required) - set(record))
    if missing:
        raise ProtocolError(f"{what} lacks: {', '.join(missing)}.")
    hints = get_type_hints(kind)
    for name, value in record.items():
        expected = hints[name]
        accepted = (int, float) if expected is float else expected
        if expected in _PLAIN and (
            not isinstance(value, accepted) or isinstance(value, bool) is not (expected is bool)
        ):
            raise ProtocolError(f"{what}: {name} must be {_PLAIN[expected]}, not {value!r}.")
    return kind(**record)
