# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a component what it should be? Said in one sentence where it is not, without loading anything.

`check` reads config.json and the headers of the safetensors files: wrong model, wrong generation, pickle, truncated.
`verify` also reads every byte, against the SHA-256 that was recorded when the component was installed. Refiner and
connectors of the bidirectional and the streaming release have the same shapes, so only the hash tells them apart.
`locate` is `check` of what lies below a weights folder.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..protocol import ProtocolError
from ..protocol.weights_folder import (
    PICKLE_ENDINGS,
    class_names,
    config_of,
    find,
    hashes,
    installed,
    remains,
    unconverted,
    weight_files,
)
from ..protocol.weights_registry import COMPONENTS, Component

_LARGEST_HEADER = 100_000_000
_BLOCK = 1 << 22
# What LTX-2.3 and later switch on in their configs, and LTX-2 has not.
_LATER_SWITCHES = (
    "gated_attn", "audio_gated_attn", "cross_attn_mod", "audio_cross_attn_mod", "per_modality_projections",
    "video_gated_attn",
)  # fmt: skip


class NotReady(ProtocolError):
    """A component that cannot be loaded although nothing of it is damaged.

    Attributes:
        state: "missing", "incomplete" or "not converted".
    """

    def __init__(self, sentence: str, state: str) -> None:
        super().__init__(sentence)
        self.state = state


def verify(root: Path, component_id: str, on_read: Callable[[int], None] | None = None) -> str:
    """Check a component below `root` and hash its files; returns a sentence on what was found.

    Args:
        on_read: called with the number of bytes after every few MB.

    Raises:
        NotReady: it is missing, incomplete or not converted.
        ProtocolError: one of its files is not what it should be.
    """
    component = COMPONENTS[component_id]
    place = locate(root, component_id)
    folder = place.parent if place.is_file() else place
    is_own = folder == root / component_id
    expected = {file.name: file.sha256 for file in component.files if file.sha256} if is_own else {}
    expected |= hashes(root, component_id) if is_own else {}
    files = {*weight_files(place, component), *(folder / name for name in expected)}
    for file in sorted(files):
        _check_hash(root, component, file, sha256_of(file, on_read), expected.get(file.name))
    held = all(file.name in expected for file in files)
    return f"{component.title} is whole" + ("." if held else ", but no hash is known to hold it against.")


def locate(root: Path, component_id: str) -> Path:
    """Where a component lies below `root`, checked by names, sizes and headers; see `find`.

    Raises:
        NotReady: it is missing, incomplete or not converted.
        ProtocolError: what is there is damaged or is something else.
    """
    component = COMPONENTS[component_id]
    _check_recorded_sizes(root, component)
    place = find(root, component_id)
    if place is None:
        raise _not_found(root, component)
    check(place, component)
    return place


def check(place: Path, component: Component) -> None:
    """Refuse what would load as something else, from config.json and the headers alone.

    Args:
        place: what `find` gave, or any folder or file that is said to be the component.

    Raises:
        ProtocolError: one sentence.
    """
    config = config_of(place.parent if place.is_file() else place)
    if config is not None:
        _check_config(config, component)
    files = weight_files(place, component)
    if not files:
        pickles = [p.name for p in place.glob("*") if p.suffix in PICKLE_ENDINGS] if place.is_dir() else []
        found = f" only {', '.join(pickles)}, which could run code and is not loaded" if pickles else " none"
        raise ProtocolError(
            f"{component.title} needs safetensors files, and {place} has{found}; {_remedy(component)}."
        )
    headers = [read_header(file) for file in files]
    names = {name for header in headers for name in header}
    if not any(name.endswith(component.tensor) for name in names):
        raise ProtocolError(
            f"{files[0].name} in {files[0].parent} is not {component.title}: it has no {component.tensor}; "
            f"{_remedy(component)}."
        )
    for header in headers:
        _check_generation(header, component)


def read_header(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file by name: dtype, shape and data_offsets; no tensor is read.

    Raises:
        ProtocolError: it is missing, truncated, or no safetensors file.
    """
    if not path.is_file():
        raise ProtocolError(f"{path.name} is missing from {path.parent}; download it again.")
    with open(path, "rb") as file:
        start = file.read(9)
        # Any first bytes can be a header's length, but the header itself begins with a brace.
        if start[8:] != b"{" or (length := int.from_bytes(start[:8], "little")) > _LARGEST_HEADER:
            if start.startswith((b"PK", b"\x80")):
                raise ProtocolError(
                    f"{path.name} in {path.parent} is a pickle, which could run code; it is not loaded: download the "
                    "safetensors file."
                )
            raise ProtocolError(f"{path.name} in {path.parent} is not a safetensors file; download it again.")
        text = start[8:] + file.read(length - 1)
    if len(text) < length:
        raise ProtocolError(
            f"{path.name} in {path.parent} is truncated within its header; download it again."
        )
    try:
        header = json.loads(text)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ProtocolError(
            f"{path.name} in {path.parent} has a damaged header; download it again."
        ) from None
    size = path.stat().st_size
    if size < end:
        raise ProtocolError(
            f"{path.name} in {path.parent} is truncated: {size:,} of {end:,} bytes are there; download it again."
        )
    return tensors


def sha256_of(path: Path, on_read: Callable[[int], None] | None = None) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if on_read:
                on_read(len(block))
    return digest.hexdigest()


def _check_config(config: dict[str, Any], component: Component) -> None:
    named = class_names(config)
    if not named & set(component.classes):
        raise ProtocolError(
            f"This is not {component.title}: its config.json names {', '.join(sorted(named)) or 'no class'} instead of "
            f"{' or '.join(component.classes)}; {_remedy(component)}."
        )
    if any(config.get(switch) for switch in _LATER_SWITCHES):
        raise ProtocolError(_of_later_generation(component))
    if component.id in ("vae", "vae_causal") and "decoder_causal" in config:
        if config["decoder_causal"] != (component.id == "vae_causal"):
            kind = "causal" if config["decoder_causal"] else "non-causal"
            raise ProtocolError(
                f"This is not {component.title}: its config.json has the {kind} decoder of the other release; "
                f"{_remedy(component)}."
            )


def _check_generation(header: dict[str, Any], component: Component) -> None:
    table = header.get(component.tensor, {}).get("shape")
    if component.id.startswith("refiner") and isinstance(table, list) and table[:1] == [9]:
        raise ProtocolError(_of_later_generation(component))


def _of_later_generation(component: Component) -> str:
    return (
        f"This is not {component.title} but a part of LTX-2.3 or later, which has other weights under the same names; "
        f"SANA-WM needs the files of {component.repository}."
    )


def _remedy(component: Component) -> str:
    return f"download {component.id}, or choose the folder that has it"


def _check_recorded_sizes(root: Path, component: Component) -> None:
    if not (root / component.id).is_dir():  # removed by hand, or moved to where another layout has it
        return
    for name, entry in installed(root, component.id).get("files", {}).items():
        path = root / component.id / name
        if not path.is_file():
            raise ProtocolError(f"{name} of {component.title} is missing; download it again.")
        if path.stat().st_size != entry["size"]:
            raise ProtocolError(
                f"{name} of {component.title} has {path.stat().st_size:,} bytes instead of {entry['size']:,}; "
                "remove it and download again."
            )


def _check_hash(root: Path, component: Component, file: Path, digest: str, expected: str | None) -> None:
    for other, name in _others_with(root, component, digest):
        raise ProtocolError(
            f"{file.name} of {component.title} is the {name} of {other.title}, which has the same shapes but other "
            f"weights; download {component.id} instead."
        )
    if expected and digest != expected:
        raise ProtocolError(
            f"{file.name} of {component.title} is not the file that was published: its SHA-256 is {digest[:12]}… "
            f"instead of {expected[:12]}…; remove it and download again."
        )


def _others_with(root: Path, component: Component, digest: str) -> Iterator[tuple[Component, str]]:
    """Components whose weights are known to have this hash, and the file's name there."""
    # The connectors of both releases may well be the same file.
    if component.id.startswith("connectors"):
        return
    own = hashes(root, component.id).values()
    for other in COMPONENTS.values():
        if other.id != component.id and digest not in own:
            yield from ((other, n) for n, known in hashes(root, other.id).items() if known == digest)


def _not_found(root: Path, component: Component) -> ProtocolError:
    """Why `find` finds nothing."""
    folder = remains(root, component.id)
    if folder is None:
        sentence = f"{component.title} is not in {root}; download it, or choose a folder that has it."
        return NotReady(sentence, "missing")
    pickle = unconverted(root, component.id)
    if pickle is not None:
        return _not_converted(component, pickle)
    lacking = [file.name for file in component.files if not (folder / file.name).is_file()]
    if lacking and folder == root / component.id:
        return NotReady(
            f"{component.title} is incomplete: {', '.join(lacking)} is still to come; download again to go on.",
            "incomplete",
        )
    try:
        check(folder, component)
    except ProtocolError as error:
        return error
    return ProtocolError(
        f"{component.title} in {folder} has no readable config.json; remove it and download again."
    )


def _not_converted(component: Component, pickle: Path) -> ProtocolError:
    with open(pickle, "rb") as file:
        is_archive = file.read(2) == b"PK"
    if is_archive and not zipfile.is_zipfile(pickle):  # its table stands at the end
        return ProtocolError(f"{pickle.name} in {pickle.parent} is truncated; download it again.")
    return NotReady(
        f"{component.title} is downloaded but not converted; run `weights convert --weights DIR`, once.",
        "not converted",
    )
