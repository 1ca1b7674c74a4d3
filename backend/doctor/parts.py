# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the released model in a weights folder: there, whole, licensed, or a sentence on why not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..protocol import ProtocolError
from ..protocol.weights_folder import find, installed, layout, remains, unconverted, weight_files
from ..protocol.weights_licences import LICENCES, is_accepted
from ..protocol.weights_registry import COMPONENTS, Component
from ..weights.verify import NotReady, locate, verify

OnRead = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Part:
    """A component of the registry.

    Attributes:
        state: "whole", "damaged", "missing", "incomplete" (a download that can go on) or "not converted".
        words: one sentence on what is wrong and what to do; of a whole one, what reading every byte told, or nothing.
        place: the file or folder, or the one that has some of it; None if it is missing.
        layout: "own folder", "NVlabs' layout" or "diffusers' layout"; empty if it is missing.
        licence: key of LICENCES.
        is_accepted: None if the record of the licences is damaged.
        size_gb: on the disk, in 1e9 bytes.
        published_gb: of the download; None where it is not known before.
    """

    id: str
    title: str
    state: str
    words: str
    place: Path | None
    layout: str
    licence: str
    is_accepted: bool | None
    size_gb: float
    published_gb: float | None


@dataclass(frozen=True)
class Weights:
    """
    Attributes:
        root: the weights folder.
        problem: a sentence if there is no such folder.
        damages: sentences about its records.
        is_hashed: every byte was read; otherwise names, sizes and headers.
        free_gb: of the disk that the folder lies on, or would lie on; None if that cannot be told.
    """

    root: Path
    parts: tuple[Part, ...]
    problem: str
    damages: tuple[str, ...]
    free_gb: float | None
    is_hashed: bool


def examine(root: Path, on_read: OnRead | None = None) -> Weights:
    """Look at everything that the registry knows; a damaged folder is described, whatever is wrong with it.

    Args:
        root: need not exist.
        on_read: given, every byte is held against its hash, and it is called with the component's title, the bytes
            read and the bytes in all; otherwise names, sizes and headers are read.
    """
    records = _complaint(root, lambda: installed(root, ""))
    licences = _complaint(root, lambda: [is_accepted(root, id) for id in LICENCES])
    damages = tuple(filter(None, dict.fromkeys((records, licences))))
    look = _Reading(root, on_read) if on_read else _looked
    parts = tuple(_part(root, component, look, bool(records)) for component in COMPONENTS.values())
    missing = (
        "" if damages or root.is_dir() else f"There is no folder {root}; choose the one that has the weights."
    )
    return Weights(root, parts, missing, damages, _free_gb(root), on_read is not None)


def _looked(root: Path, component_id: str) -> str:
    locate(root, component_id)
    return ""


class _Reading:
    """`verify`, with the progress through all components."""

    def __init__(self, root: Path, on_read: OnRead) -> None:
        self._on_read, self._title, self._done = on_read, "", 0
        self._bytes = {id: _weight_bytes(root, component) for id, component in COMPONENTS.items()}
        self._total = sum(self._bytes.values())

    def __call__(self, root: Path, component_id: str) -> str:
        self._title, before = COMPONENTS[component_id].title, self._done
        try:
            return verify(root, component_id, self._add)
        finally:
            self._done = before + self._bytes[component_id]

    def _add(self, count: int) -> None:
        self._done = min(self._done + count, self._total)
        self._on_read(self._title, self._done, self._total)


def _part(
    root: Path, component: Component, look: Callable[[Path, str], str], has_damaged_records: bool
) -> Part:
    try:
        state, words = "whole", look(root, component.id)
    except NotReady as error:
        state, words = error.state, str(error)
    except (ProtocolError, OSError) as error:
        state, words = "damaged", _sentence(error, component.title)
        if has_damaged_records and (root / component.id).is_dir():
            words = f"{component.title} can be judged when installed.json is right again."
    place = None if state == "missing" else _or(None, lambda: _place(root, component.id))
    return Part(
        component.id,
        component.title,
        state,
        words,
        place,
        layout(root, component.id, place) if place else "",
        component.licence,
        _or(None, lambda: is_accepted(root, component.licence)),
        _or(0, lambda: sum(path.stat().st_size for path in _files(place))) / 1e9,
        component.size_gb,
    )


def _place(root: Path, component_id: str) -> Path | None:
    return find(root, component_id) or unconverted(root, component_id) or remains(root, component_id)


def _files(place: Path | None) -> list[Path]:
    if place is None or place.is_file():
        return [place] if place else []
    return [path for path in place.iterdir() if path.is_file()]


def _weight_bytes(root: Path, component: Component) -> int:
    def counted() -> int:
        place = find(root, component.id)
        return sum(path.stat().st_size for path in weight_files(place, component)) if place else 0

    return _or(0, counted)


def _free_gb(root: Path) -> float | None:
    def free() -> float:
        there = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.is_dir())
        return shutil.disk_usage(there).free / 1e9

    return _or(None, free)


def _complaint(root: Path, look: Callable[[], object]) -> str:
    try:
        look()
    except (ProtocolError, OSError) as error:
        return _sentence(error, str(root))
    return ""


def _sentence(error: Exception, what: str) -> str:
    if isinstance(error, OSError):
        return f"{what} cannot be read ({error}); check the disk and who may read the folder."
    return str(error)


def _or(otherwise, look):
    """What `look` finds, or something else where the disk does not let it."""
    try:
        return look()
    except (ProtocolError, OSError):
        return otherwise
