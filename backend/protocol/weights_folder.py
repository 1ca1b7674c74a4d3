# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights on this machine: found in the folder that the user chose, whatever its layout; what was installed.

Downloaded components lie in folders of their own, `<root>/<component id>/`. A copy of a release or of the diffusers
library's repositories will do as well, as the root itself or in a folder below it that has the repository's name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import ProtocolError
from .weights_records import read_table, write_table
from .weights_registry import COMPONENTS, Component

PARTIAL_ENDING = ".partial"
PICKLE_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".pkl")


def find(root: Path, component_id: str) -> Path | None:
    """Where a component lies, complete: the file of stage 1, the folder of any other; None if it does not.

    Looks at names, at config.json and, for what was downloaded, at sizes; `weights verify` looks inside. Repositories
    of the diffusers library keep a text encoder's tokenizer beside its folder, in `tokenizer`.
    """
    component = COMPONENTS[component_id]
    own = root / component.id
    for folder in _folders(root, component):
        weights = _weights_in(folder, component)
        if weights and (folder != own or _has_recorded_sizes(root, component)):
            return weights if component.is_one_file else folder
    return None


def remains(root: Path, component_id: str) -> Path | None:
    """A folder that has something of a component where `find` finds nothing whole; None if there is no such folder."""
    component = COMPONENTS[component_id]
    names = {*component.weights, *(file.name for file in component.files)}
    endings = (
        (PARTIAL_ENDING,) if component.is_one_file else (PARTIAL_ENDING, ".safetensors", *PICKLE_ENDINGS)
    )
    for folder in _folders(root, component):
        there = [path.name for path in folder.glob("*") if path.is_file()]
        has_some = any(name in names or name.endswith(endings) for name in there)
        if has_some and not _is_anothers(root, folder, component):
            return folder
    return None


def layout(root: Path, component_id: str, place: Path) -> str:
    """Whose arrangement of folders a place that `find` or `remains` gave belongs to, in words."""
    folder = place.parent if place.is_file() else place
    if folder == root / component_id:
        return "own folder"
    of_library = [path for path in COMPONENTS[component_id].places if "-diffusers" in path]
    # Where the user's folder is the copy itself, the repository's name is not in the path.
    of_library += [path.partition("/")[2] for path in of_library]
    return "diffusers' layout" if folder.relative_to(root).as_posix() in of_library else "NVlabs' layout"


def quantized_name(component_id: str, format: str) -> str:
    """The folder below the root in which `weights quantize` puts a component."""
    return f"{component_id}_{format}"


def find_quantized(root: Path, component_id: str, format: str) -> Path | None:
    """Where a component lies with its linears in a format such as "nvfp4"; like `find`."""
    component = COMPONENTS[component_id]
    folder = root / quantized_name(component_id, format)
    weights = _weights_in(folder, component)
    return weights if weights is None or component.is_one_file else folder


def state(root: Path, component_id: str) -> str:
    """ "present"; "partial" if only some of it lies in the component's own folder; or "missing"."""
    if find(root, component_id):
        return "present"
    own = root / component_id
    return "partial" if own.is_dir() and any(own.iterdir()) else "missing"


def unconverted(root: Path, component_id: str) -> Path | None:
    """The published file of a component whose weights have to be converted from it first; None if it is not there."""
    component = COMPONENTS[component_id]
    name = component.files[0].name
    if not name.endswith(".pt"):
        return None
    return next((folder / name for folder in _folders(root, component) if (folder / name).is_file()), None)


def weight_files(place: Path, component: Component) -> list[Path]:
    """The safetensors files of what `find` found."""
    if place.is_file():
        return [place]
    for name in component.weights:
        if (place / name).is_file():
            return [place / name]
        shards = _shards(place / f"{name}.index.json")
        if shards:
            return shards
    return []


def installed(root: Path, component_id: str) -> dict[str, Any]:
    """What `installed.json` records of a component: repository, revision, files (size and sha256 by name); or {}.

    Raises:
        ProtocolError: the record is damaged.
    """
    return _records(root).get(component_id, {})


def hashes(root: Path, component_id: str) -> dict[str, str]:
    """The recorded SHA-256 of a downloaded component's files, by name."""
    files = installed(root, component_id).get("files", {})
    return {name: entry["sha256"] for name, entry in files.items()}


def record_installed(root: Path, component_id: str, record: dict[str, Any] | None) -> None:
    """Replace what `installed.json` says of a component; None forgets it."""
    records = {**_records(root), component_id: record}
    kept = {id: entry for id, entry in records.items() if entry is not None}
    write_table(root / "installed.json", "components", kept)


def config_of(place: Path) -> dict[str, Any] | None:
    """The config.json of a component's folder; None if there is none that can be read."""
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def class_names(config: dict[str, Any]) -> set[str]:
    """What a config says that it configures."""
    architectures = config.get("architectures")
    names = [config.get("_class_name"), *(architectures if isinstance(architectures, list) else ())]
    return {name for name in names if isinstance(name, str)}


def _folders(root: Path, component: Component) -> tuple[Path, ...]:
    """Where a component may lie, its own folder first."""
    return (root / component.id, *(root / place for place in component.places))


def _is_anothers(root: Path, folder: Path, component: Component) -> bool:
    """Whether the folder is a place of another component as well, and its config says that it is that one."""
    named = class_names(config_of(folder) or {})
    others = [other for other in COMPONENTS.values() if named & set(other.classes)]
    return component not in others and any(folder in _folders(root, other) for other in others)


def _weights_in(folder: Path, component: Component) -> Path | None:
    """The first file of the component's weights, if the folder holds all of them and a config that fits."""
    files = weight_files(folder, component)
    if not files or not all(file.is_file() for file in files):
        return None
    config = config_of(folder)
    if config is None:
        return files[0] if component.is_one_file else None
    return files[0] if class_names(config) & set(component.classes) else None


def _shards(index: Path) -> list[Path]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [index.parent / Path(name).name for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _has_recorded_sizes(root: Path, component: Component) -> bool:
    own = root / component.id
    files = installed(root, component.id).get("files", {})
    return all((own / n).is_file() and (own / n).stat().st_size == e["size"] for n, e in files.items())


def _records(root: Path) -> dict[str, Any]:
    path, remedy = root / "installed.json", "remove it, and download again: whole files stay"
    records = read_table(path, "components", remedy)
    for record in records.values():
        files = record.get("files", {}) if isinstance(record, dict) else None
        entries = files.values() if isinstance(files, dict) else [None]
        if not all(isinstance(entry, dict) and {"size", "sha256"} <= set(entry) for entry in entries):
            raise ProtocolError(f"{path} is damaged; {remedy}.")
    return records
