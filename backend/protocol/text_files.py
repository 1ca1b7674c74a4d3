# SPDX-License-Identifier: GPL-3.0-or-later
"""Text files that other programs and people write."""

from __future__ import annotations

from pathlib import Path

from .errors import ProtocolError


def read_text(path: Path, what: str, remedy: str) -> str:
    """UTF-8 with or without a byte order mark; line ends as they are.

    Args:
        what: such as "shot list", for the sentence.
        remedy: what to do if the file is no UTF-8 text.

    Raises:
        ProtocolError: missing, not readable, or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ProtocolError(f"The {what} {path} is missing.") from error
    except OSError as error:
        raise ProtocolError(f"The {what} {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ProtocolError(f"{path.name} is not UTF-8 text; {remedy}.") from error
