# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension zip: the rooms that ship, laid out as the package that Blender imports.

The same tree and version always give the same bytes, so a rebuilt zip can be compared by its hash.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import tomllib
import zipfile
from pathlib import Path

SHIPPED = (
    "blender_manifest.toml",
    "pyproject.toml",
    "LICENSE",
    "blender_addon",
    "backend",
    "kernels",
    "presets",
)
# Not a date of this project: the earliest that a zip can hold.
TIMESTAMP = (1980, 1, 1, 0, 0, 0)

ENTRY = '''# SPDX-License-Identifier: GPL-3.0-or-later
"""SANA-WM Shots: camera moves and blockouts become clips in the sequencer."""

from .blender_addon import register, unregister

__all__ = ["register", "unregister"]
'''


class PackageError(Exception):
    """The extension cannot be packaged; the message says why."""


def stage(root: Path, folder: Path) -> None:
    """Lays out what ships in `folder`, which must not exist yet, as the package's root."""
    folder.mkdir(parents=True)
    missing = [name for name in SHIPPED if not (root / name).exists()]
    if missing:
        raise PackageError(f"Cannot package: {', '.join(missing)} not found in {root}.")
    for name in SHIPPED:
        if (root / name).is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
            shutil.copytree(root / name, folder / name, ignore=unwanted)
        else:
            shutil.copyfile(root / name, folder / name)
    (folder / "__init__.py").write_text(ENTRY, "utf-8")


def build_zip(root: Path, output: Path) -> Path:
    """Writes `output`/sana_wm-VERSION.zip and returns its path."""
    manifest = tomllib.loads((root / "blender_manifest.toml").read_text("utf-8"))
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{manifest['id']}-{manifest['version']}.zip"
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / manifest["id"]
        stage(root, tree)
        partial = path.with_suffix(".zip.part")
        with zipfile.ZipFile(partial, "w") as archive:
            for file in sorted(p for p in tree.rglob("*") if p.is_file()):
                entry = zipfile.ZipInfo(file.relative_to(tree).as_posix(), TIMESTAMP)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, file.read_bytes(), compresslevel=6)
        partial.replace(path)
    return path


def validate(archive: Path, blender_python: Path) -> None:
    """Asks Blender's own extension tool about the zip, and lets it build one from the same tree.

    The tool's `validate` accepts some packages that its `build` refuses, so both are asked.
    """
    found = list(blender_python.parents[1].rglob("bl_pkg/cli/blender_ext.py"))
    if not found:
        raise PackageError(f"Blender's extension tool is missing beside {blender_python}.")
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(tree)
        for arguments in (
            ["validate", str(archive)],
            ["build", "--source-dir", str(tree), "--output-dir", scratch],
        ):
            tool = subprocess.run(
                [str(blender_python), str(found[0]), *arguments], capture_output=True, text=True, timeout=120
            )
            if tool.returncode:
                said = (tool.stdout + tool.stderr).strip()
                raise PackageError(f"Blender's extension tool refuses {archive.name}: {said}")
