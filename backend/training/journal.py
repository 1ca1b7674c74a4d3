# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of a run that grow row by row, and are cut back to the checkpoint that the run goes on from."""

from __future__ import annotations

import csv
from pathlib import Path

from ..protocol import atomic


class Journal:
    """A CSV file whose first column is the step. Its columns are those of the first row; others may leave some out."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, row: dict[str, float]) -> None:
        with open(self._path, "a+", newline="") as stream:
            stream.seek(0)
            names = next(csv.reader(stream), None)
            writer = csv.DictWriter(stream, names or list(row))
            if names is None:
                writer.writeheader()
            writer.writerow(row)

    def cut_behind(self, step: int) -> None:
        """Drop the rows of later steps, and the half of a row that a crash may have left."""
        if not self._path.exists():
            return
        header, *rows = self._path.read_text().splitlines(keepends=True)
        kept = [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= step]
        if len(kept) < len(rows):
            atomic.write_bytes(self._path, "".join([header, *kept]).encode())
