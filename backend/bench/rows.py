# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured, one row each; a row that failed holds the reason and does not end the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Cell = float | str | bool | None
# Section -> its columns, after the name.
COLUMNS = {
    "parity": ("tensor", "error", "gate", "passed"),
    "operators": ("ms", "GB/s", "TFLOP/s", "bound ms", "of bound", "memory GB"),
    "stages": ("measured s", "clip s", "bound s", "published s", "memory GB", "how"),
}
_WIDEST = 60


@dataclass(frozen=True)
class Row:
    """
    Attributes:
        section: of COLUMNS.
        name: what was measured.
        values: by column; what is missing was not measured.
        reason: why it failed, as a sentence; empty if it did not.
    """

    section: str
    name: str
    values: dict[str, Cell] = field(default_factory=dict)
    reason: str = ""

    def to_record(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def guarded(section: str, name: str, measure: Callable[[], Sequence[Row]]) -> Iterator[Row]:
    """The rows of a measurement, or one that says why there are none."""
    try:
        yield from measure()
    except Exception as error:  # a driver, a compiler or a kernel may fail in any way
        why = " ".join(str(error).split())[:300]
        failed = {"passed": False} if section == "parity" else {}
        yield Row(section, name, failed, f"{type(error).__name__}: {why}" if why else type(error).__name__)


def has_failed(rows: Sequence[Row]) -> bool:
    """Whether an operator does not compute what it should."""
    return any(row.section == "parity" and not row.values.get("passed") for row in rows)


def table(section: str, rows: Sequence[Row]) -> str:
    """The rows of one section, aligned; reasons stand below their rows."""
    titles = ("", *COLUMNS[section])
    lines = [[row.name, *(_cell(row.values.get(title)) for title in titles[1:])] for row in rows]
    widths = [min(_WIDEST, max(map(len, column))) for column in zip(titles, *lines, strict=True)]
    text = [_line(titles, widths)]
    for row, line in zip(rows, lines, strict=True):
        text.append(_line(line, widths))
        if row.reason:
            text.append(f"    not measured: {row.reason}")
    return "\n".join(text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cell(value: Cell) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-" if value is None else str(value)
