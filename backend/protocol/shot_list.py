# SPDX-License-Identifier: GPL-3.0-or-later
"""A list of shots as a CSV file: what to make, and what became of it."""

from __future__ import annotations

import csv
import io
import itertools
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from . import atomic
from .errors import ProtocolError
from .limits import Finding
from .shot import CODE
from .text_files import read_text

MAX_TAKES = 99
# What other tools call our columns.
_ALIASES = {
    "shot": "code",
    "start": "frame_start",
    "end": "frame_end",
    "frame_in": "frame_start",
    "frame_out": "frame_end",
    "negative": "negative_prompt",
}
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class ShotRow:
    """One row; the columns of the file are these fields in this order.

    Attributes:
        code: such as "010_0030": letters, digits and underscores; unique in its list.
        name: free text.
        camera: name of the camera object; empty for the scene's camera at the first frame.
        frame_start, frame_end: scene frames, both included; both None for the scene's own range.
        prompt, negative_prompt: free text.
        first_frame: path of an image as text; empty for the rendered blockout.
        preset: file name of the preset without its ending; empty for the scene's.
        seed: of the first take; each further take counts it up by one. 0 .. 2**32 - 1; None for the scene's.
        takes: how many to make, 1 .. MAX_TAKES; None for the scene's.
        status: outcome: a JobState, or empty if the shot was never asked for.
        take: outcome: number of the take that was chosen, counted from 1; 0 if there is none.
        clip: outcome: path of that take's clip as text.
        match: outcome: how well the clip follows the camera, in words.
    """

    code: str
    name: str = ""
    camera: str = ""
    frame_start: int | None = None
    frame_end: int | None = None
    prompt: str = ""
    negative_prompt: str = ""
    first_frame: str = ""
    preset: str = ""
    seed: int | None = None
    takes: int | None = None
    status: str = ""
    take: int = 0
    clip: str = ""
    match: str = ""

    def __post_init__(self) -> None:
        if not CODE.fullmatch(self.code):
            raise ProtocolError(
                f"the code {self.code!r} must consist of letters, digits and underscores, "
                "and begin with a letter or digit."
            )
        if (self.frame_start is None) != (self.frame_end is None):
            raise ProtocolError("frame_start and frame_end go together; give both, or neither.")
        if self.frame_start is not None and self.frame_end < self.frame_start:
            raise ProtocolError(
                f"the range ends at {self.frame_end}, before it starts at {self.frame_start}."
            )
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise ProtocolError(f"seed must lie between 0 and {2**32 - 1}, not {self.seed}.")
        if self.takes is not None and not 1 <= self.takes <= MAX_TAKES:
            raise ProtocolError(f"takes must lie between 1 and {MAX_TAKES}, not {self.takes}.")
        if self.take < 0:
            raise ProtocolError(f"take must be 0 or more, not {self.take}.")

    @property
    def version_name(self) -> str:
        """Code and chosen take as the clip is named, such as "010_0030-v002"; the code alone without a take."""
        return f"{self.code}-v{self.take:03d}" if self.take else self.code


COLUMNS = tuple(field.name for field in fields(ShotRow))
_TYPES = get_type_hints(ShotRow)
_REQUIRED = {field.name for field in fields(ShotRow) if field.default is MISSING}


def write_shot_list(path: Path, rows: list[ShotRow]) -> None:
    """Replace `path` by the rows: UTF-8 with a byte order mark, so that Excel reads it too; atomically."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for row in rows:
        values = (getattr(row, column) for column in COLUMNS)
        writer.writerow("" if value is None else value for value in values)
    atomic.write_bytes(path, buffer.getvalue().encode("utf-8-sig"))


def read_shot_list(path: Path) -> tuple[list[ShotRow], list[Finding]]:
    """Read a shot list separated by commas, semicolons or tabs.

    Returns:
        The usable rows in their order, and a finding for everything else: an error for each row left out,
        with its line number, and a note that names all columns nobody knows.

    Raises:
        ProtocolError: the file is missing, is not UTF-8 text, or has no row of column names with "code".
    """
    records = _records(read_text(path, "shot list", 'save it as "CSV UTF-8"'))
    _line, header, broken = next(records, (1, [], ""))
    columns = [_column(cell) for cell in header]
    if broken or "code" not in columns:
        raise ProtocolError(
            f"{path.name} must begin with a row of column names, among them code; this version knows "
            f"{', '.join(COLUMNS)}."
        )
    twice = sorted({c for c in columns if c in COLUMNS and columns.count(c) > 1})
    if twice:
        raise ProtocolError(f"{path.name} has more than one column {', '.join(twice)}; keep one of each.")
    rows: list[ShotRow] = []
    findings: list[Finding] = []
    line_of: dict[str, int] = {}
    for line, cells, broken in records:
        if not broken and not any(cell.strip() for cell in cells):
            continue
        try:
            if broken:
                raise ProtocolError(broken)
            row = _row(columns, cells)
            if row.code in line_of:
                raise ProtocolError(
                    f"the code {row.code} stands in line {line_of[row.code]} already; give each shot its own."
                )
        except ProtocolError as error:
            findings.append(Finding(True, f"Line {line} of {path.name} is left out: {error}"))
        else:
            line_of[row.code] = line
            rows.append(row)
    unknown = [cell.strip() for cell, column in zip(header, columns, strict=True) if column not in COLUMNS]
    if any(unknown):
        names = ", ".join(filter(None, unknown))
        findings.append(Finding(False, f"{path.name} has columns that are not read: {names}."))
    return rows, findings


def _records(text: str):
    """Yields (number of the first line, cells, what is wrong with the quotes or empty) for each record."""
    lines = list(io.StringIO(text, newline=""))
    first = lines[0] if lines else ""
    delimiter = max(_DELIMITERS, key=first.count)
    start = 0
    while start < len(lines):
        reader = csv.reader(itertools.islice(lines, start, None), delimiter=delimiter, strict=True)
        try:
            cells = next(reader)
        except csv.Error as error:
            # A quote that is never closed would swallow the rest; the next line begins anew instead.
            yield start + 1, [], f"its quotation marks are not closed where they should be ({error})."
            start += 1
            continue
        yield start + 1, cells, ""
        start += reader.line_num


def _column(cell: str) -> str:
    name = "_".join(cell.lower().split())
    return _ALIASES.get(name, name)


def _row(columns: list[str], cells: list[str]) -> ShotRow:
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise ProtocolError(
            f"it has {len(cells)} cells for {len(columns)} columns; put text that contains the separator in quotes."
        )
    values: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=False):
        if column not in COLUMNS:
            continue
        if _TYPES[column] is str:
            values[column] = cell.strip() if column in _REQUIRED else cell
        elif cell.strip():
            values[column] = _whole_number(column, cell.strip())
    return ShotRow(**{name: "" for name in _REQUIRED} | values)


def _whole_number(column: str, cell: str) -> int:
    try:
        number = float(cell)  # some spreadsheets write 101.0
        if number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ProtocolError(f"{column} must be a whole number, not {cell!r}.")
