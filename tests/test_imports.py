# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may import whom, checked on the tree as it ships."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import package

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for folder in ("backend", "blender_addon", "kernels", "tests", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
] + [ROOT / "build.py"]

# The rooms that may use only what is listed, beside the standard library.
ALLOWED = {
    "blender_addon": {
        "bpy",
        "bpy_extras",
        "bl_ui",
        "blf",
        "bmesh",
        "gpu",
        "gpu_extras",
        "mathutils",
        "numpy",
    },
    "backend/protocol": {"numpy"},
    "kernels": {"torch", "triton"},
}

# Where an import would break a rule, the import, and what the linter calls its target.
FORBIDDEN = (
    ("blender_addon", "from ..backend import worker", "sana_wm.backend.worker"),
    ("blender_addon", "from ..backend.video.writer import ClipWriter", "sana_wm.backend.video.writer"),
    ("blender_addon/operators", "from ... import kernels", "sana_wm.kernels"),
    ("blender_addon", "from backend.protocol import Shot", "backend"),
    ("blender_addon", "import torch", "torch"),
    ("backend", "import bpy", "bpy"),
    ("backend/models", "from ...blender_addon import camera", "sana_wm.blender_addon.camera"),
    ("backend/models", "from .. import worker", "sana_wm.backend.worker"),
    ("backend/sampling", "from ..video import writer", "sana_wm.backend.video.writer"),
    ("backend/protocol", "from .. import pipeline", "sana_wm.backend.pipeline"),
    ("backend/protocol", "from ..progress import Progress", "sana_wm.backend.progress"),
    ("backend/protocol", "import torch", "torch"),
    ("kernels", "from ..backend.protocol import FPS", "sana_wm.backend.protocol"),
    ("kernels", "import numpy", "numpy"),
)


def imported(path: Path) -> set[str]:
    """Top-level names of the absolute imports of a file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def lint(tree: Path) -> subprocess.CompletedProcess:
    """import-linter on the package sana_wm inside `tree`."""
    command = [Path(sys.executable).parent / "lint-imports", ROOT / "pyproject.toml", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200"}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def test_import_rules_hold_in_the_shipped_tree(tmp_path):
    package.stage(ROOT, tmp_path / "sana_wm")
    run = lint(tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_forbidden_import_is_found(tmp_path):
    package.stage(ROOT, tmp_path / "sana_wm")
    for number, (room, line, _target) in enumerate(FORBIDDEN):
        (tmp_path / "sana_wm" / room / f"planted_{number}.py").write_text(f"{line}\n", "utf-8")
    run = lint(tmp_path)
    assert run.returncode == 1, run.stdout + run.stderr
    said = " ".join(run.stdout.split())
    missed = [
        line
        for number, (room, line, target) in enumerate(FORBIDDEN)
        if f"sana_wm.{room.replace('/', '.')}.planted_{number} -> {target}" not in said
    ]
    assert missed == []


def test_every_relative_import_names_something_that_is_there():
    missing = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                if not (folder.is_dir() or folder.with_suffix(".py").is_file()):
                    missing.append(f"{path.relative_to(ROOT)}:{node.lineno} {'.' * node.level}{node.module}")
    assert missing == []


@pytest.mark.parametrize("room", ALLOWED)
def test_room_uses_only_what_it_may(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    allowed = ALLOWED[room] | set(sys.stdlib_module_names)
    found = {str(p.relative_to(ROOT)): imported(p) - allowed for p in files}
    assert {name: names for name, names in found.items() if names} == {}


def test_every_source_file_states_its_licence():
    first = "# SPDX-License-Identifier: GPL-3.0-or-later"
    lines = {p: p.read_text("utf-8").splitlines()[:2] for p in SOURCES}
    assert [str(p) for p, start in lines.items() if start and first not in start] == []


def test_no_file_knows_where_this_checkout_or_home_lies():
    suffixes = {".py", ".toml", ".json", ".md", ".cfg", ""}
    listed = [p for p in ROOT.rglob("*") if p.is_file() and p.suffix in suffixes]
    rooms = {"backend", "blender_addon", "kernels", "presets", "tests", "tools", "docs", ".ci"}
    ours = [p for p in listed if p.parent == ROOT or p.relative_to(ROOT).parts[0] in rooms]
    places = (f"{ROOT}/", f"{Path.home()}/")
    found = [str(p) for p in ours if any(place in p.read_text("utf-8", "ignore") for place in places)]
    assert found == []
