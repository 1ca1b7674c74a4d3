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
    "blender_addon": {"bpy", "bpy_extras", "bl_ui", "blf", "bmesh", "gpu", "mathutils", "numpy"},
    "backend/protocol": {"numpy"},
    "kernels": {"torch", "triton"},
}


def imported(path: Path) -> set[str]:
    """Top-level names of the absolute imports of a file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_import_rules_hold_in_the_shipped_tree(tmp_path):
    package.stage(ROOT, tmp_path / "sana_wm")
    lint = Path(sys.executable).parent / "lint-imports"
    command = [lint, "--config", ROOT / "pyproject.toml", "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


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
