# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension in Blender, packaged and installed as a user would; one process for each test file."""

import atexit
import importlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

if "BLENDER_USER_RESOURCES" not in os.environ:
    _resources = tempfile.mkdtemp(prefix="sana_wm_blender_")
    os.environ["BLENDER_USER_RESOURCES"] = _resources
    atexit.register(shutil.rmtree, _resources, ignore_errors=True)

import bpy  # noqa: E402 - reads BLENDER_USER_RESOURCES when it is imported

from tools import package  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = "bl_ext.user_default.sana_wm"


@pytest.fixture(scope="session")
def extension(tmp_path_factory):
    """The root package of the installed and enabled extension."""
    archive = package.build_zip(ROOT, tmp_path_factory.mktemp("dist"))
    bpy.ops.extensions.package_install_files(
        filepath=str(archive), repo="user_default", enable_on_install=True, overwrite=True
    )
    yield EXTENSION
    # bpy 4.5 hangs at exit while a Python function is still among the handlers.
    if EXTENSION in bpy.context.preferences.addons:
        bpy.ops.preferences.addon_disable(module=EXTENSION)


@pytest.fixture(scope="session")
def addon(extension):
    """Gives a module of the add-on by name, such as addon("camera")."""
    return lambda name: importlib.import_module(f"{EXTENSION}.blender_addon.{name}")


@pytest.fixture(scope="session")
def protocol(extension):
    """The contract as the add-on imports it."""
    return importlib.import_module(f"{EXTENSION}.backend.protocol")


@pytest.fixture(scope="session")
def backend_python():
    """The interpreter of this checkout's backend."""
    return ROOT / ".env" / "backend" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


@pytest.fixture
def empty_file(extension):
    """A new file without objects; its scene."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    return bpy.context.scene


@pytest.fixture
def film(empty_file, addon, tmp_path):
    """The demo scene's first half second in a saved file, and the backend of this checkout; its scene."""
    addon("paths").preferences().backend_folder = str(ROOT / ".env" / "backend")
    bpy.ops.sanawm.add_demo_scene()
    scene = bpy.context.scene
    scene.render.resolution_percentage, scene.display.render_aa = 25, "OFF"
    scene.sana_wm.range_source = "CUSTOM"
    scene.sana_wm.frame_start, scene.sana_wm.frame_end = 1, scene.render.fps // 2 + 1
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "film.blend"))
    return scene
