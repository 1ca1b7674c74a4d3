# SPDX-License-Identifier: GPL-3.0-or-later
"""The NOTICES folder beside the weights: licenses as published, the terms that were shown, what was changed."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ..protocol import atomic
from ..protocol.weights_licences import LICENCES
from ..protocol.weights_registry import Component

_NAMES = ("LICENSE", "LICENCE", "NOTICE", "README", "USE_POLICY", "TERMS")
_LARGEST = 1_000_000


def is_notice(path: str, size: int | None) -> bool:
    """Whether a published file is a license, a notice or the card that names them."""
    return PurePosixPath(path).name.upper().startswith(_NAMES) and size is not None and size <= _LARGEST


def notice_path(root: Path, component: Component, path: str) -> Path:
    """Where the copy of such a file lies."""
    return root / "NOTICES" / component.repository.rpartition("/")[2] / path.replace("/", "_")


def write_terms(root: Path, component: Component) -> None:
    """The terms as they were shown and accepted, with the notice line that has to go along with the files."""
    licence = LICENCES[component.licence]
    folder = root / "NOTICES"
    folder.mkdir(exist_ok=True)
    atomic.write_bytes(folder / f"{licence.id}.txt", f"{licence.terms}\n".encode())


def modified_path(root: Path, name: str) -> Path:
    """Where the mark of a modified component or of a folder of that name lies."""
    return root / "NOTICES" / f"MODIFIED_{name}.txt"


def write_modified(root: Path, component: Component, what: str, name: str = "") -> None:
    """Mark a file that was made from a published one, as the licenses ask.

    Args:
        what: a sentence that names the file and how it was made.
        name: of the folder that holds it, where that is not the component's own.
    """
    path = modified_path(root, name or component.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"MODIFIED: {what}\nFrom {component.repository}, under {LICENCES[component.licence].title}.\n"
    atomic.write_bytes(path, text.encode())
