# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace files so that a reader never sees half of one: write, flush, rename."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

from .errors import ProtocolError


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`; on any error the old file stays and no temporary file is left."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as readable JSON; NaN and infinity are refused."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ProtocolError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProtocolError(f"{path.name} is missing from {path.parent}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ProtocolError(f"{path.name} in {path.parent} is not readable JSON: {error}.") from error
