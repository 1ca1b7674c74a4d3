# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders that `weights quantize` makes below a weights folder: named, recorded, verified and removed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..protocol import ProtocolError
from ..protocol.preset import QUANTIZED
from ..protocol.weights_folder import (
    PARTIAL_ENDING,
    find_quantized,
    hashes,
    installed,
    quantized_name,
    record_installed,
)
from ..protocol.weights_registry import COMPONENTS, Component
from .notices import modified_path
from .verify import read_header, sha256_of

_SETTINGS = ("config.json", "hf_quant_config.json")


@dataclass(frozen=True)
class QuantizedPart:
    """A component with its linears in a format; its folder may or may not be there."""

    component: Component
    format: str

    @property
    def name(self) -> str:
        """Of its folder, and on the command line."""
        return quantized_name(self.component.id, self.format)

    @property
    def title(self) -> str:
        return f"{self.component.title} in {self.format}"

    @property
    def remedy(self) -> str:
        """What to do about a damaged one; ends a sentence."""
        return f"remove {self.name} and quantise again"

    def is_there(self, root: Path) -> bool:
        """Whole, in part, or recorded and gone."""
        folders = root / self.name, self._unfinished(root)
        return any(folder.is_dir() for folder in folders) or bool(installed(root, self.name))

    def state(self, root: Path) -> str:
        """ "present" or "incomplete", where `is_there`."""
        return "present" if find_quantized(root, self.component.id, self.format) else "incomplete"

    def size_gb(self, root: Path) -> float:
        """On the disk, in 1e9 bytes."""
        return sum(path.stat().st_size for path in (root / self.name).glob("*") if path.is_file()) / 1e9

    def record(self, root: Path) -> None:
        """Remember size and hash of every file of the folder, for `verify`."""
        files = {
            path.name: {"size": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted((root / self.name).iterdir())
        }
        record_installed(root, self.name, {"files": files})

    def verify(self, root: Path) -> str:
        """Hash its files; returns a sentence on what was found.

        Raises:
            ProtocolError: it is missing, or a file is not the one that was written.
        """
        folder = root / self.name
        if not folder.is_dir():
            raise ProtocolError(
                f"{self.title} is not in {root}; make it with weights quantize {self.component.id} --format "
                f"{self.format}."
            )
        for name, entry in installed(root, self.name).get("files", {}).items():
            self._check(folder / name, entry)
        if find_quantized(root, self.component.id, self.format) is None:
            raise ProtocolError(f"{self.title} is incomplete in {folder}; {self.remedy}.")
        weights = folder / self.component.weights[0]
        if weights.name in hashes(root, self.name):
            return f"{self.title} is whole."
        read_header(weights)
        return f"{self.title} is whole, but no hash was recorded to hold it against."

    def remove(self, root: Path) -> None:
        """Delete what was written, also what an interrupted run left; other files in the folder stay."""
        folder = root / self.name
        written = {*installed(root, self.name).get("files", {}), *self.component.weights, *_SETTINGS}
        for path in folder.glob("*") if folder.is_dir() else ():
            if path.name in written:
                path.unlink()
        shutil.rmtree(self._unfinished(root), ignore_errors=True)
        modified_path(root, self.name).unlink(missing_ok=True)
        if installed(root, self.name):
            record_installed(root, self.name, None)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def _unfinished(self, root: Path) -> Path:
        return root / f"{self.name}{PARTIAL_ENDING}"

    def _check(self, path: Path, entry: dict) -> None:
        if not path.is_file():
            raise ProtocolError(f"{path.name} of {self.title} is missing; {self.remedy}.")
        size = path.stat().st_size
        if size != entry["size"]:
            raise ProtocolError(
                f"{path.name} of {self.title} has {size:,} bytes instead of {entry['size']:,}; {self.remedy}."
            )
        if sha256_of(path) != entry["sha256"]:
            raise ProtocolError(
                f"{path.name} of {self.title} is not the file that was written when it was quantised; {self.remedy}."
            )


def is_quantizable(component_id: str) -> bool:
    """Whether a component has linears that are quantised."""
    return component_id.startswith(("stage1", "refiner"))


PARTS: dict[str, QuantizedPart] = {
    part.name: part
    for component in COMPONENTS.values()
    if is_quantizable(component.id)
    for part in (QuantizedPart(component, format) for format in QUANTIZED)
}


def there(root: Path) -> list[QuantizedPart]:
    return [part for part in PARTS.values() if part.is_there(root)]
