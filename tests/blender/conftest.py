# SPDX-License-Identifier: GPL-3.0-or-later
"""The extension in Blender, packaged and installed as a user would; one process for each test file."""

import atexit
import importlib
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

if "BLENDER_USER_RESOURCES" not in os.environ:
    _resources = tempfile.mkdtemp(prefix="sana_wm_blender_")
    os.environ["BLENDER_USER_RESOURCES"] = _resources
    atexit.register(shutil.rmtree, _resources, ignore_errors=True)

import bpy  # noqa: E402 - reads BLENDER_USER_RESOURCES when it is imported

from tests import numbered_clip  # noqa: E402
from tests.numbered_clip import FPS, LONG, SHORT, SIZE  # noqa: E402
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


@pytest.fixture(scope="session")
def numbered_clips(backend_python, tmp_path_factory):
    """Clips by frame count, written as the backend writes its clips."""
    clips = {}
    for count in (LONG, SHORT):
        clips[count] = tmp_path_factory.mktemp("clip") / "clip.mp4"
        numbered_clip.write(backend_python, clips[count], count)
    return clips


@pytest.fixture
def finished_job(protocol, numbered_clips, tmp_path):
    """Gives the folder of a job whose clip is the numbered one."""

    def make(scene, count, frame_start=1, frame_end=None, pose_offset=0, seed=7):
        fps = scene.render.fps / scene.render.fps_base
        samples = count + pose_offset
        if frame_end is None:
            frame_end = frame_start + math.ceil((samples - 1) / FPS * fps) - 1
        camera = protocol.CameraPath(
            np.tile(np.eye(4), (samples, 1, 1)), np.tile([80.0, 80, 48, 32], (samples, 1)), SIZE
        )
        preset = protocol.Preset("Test", "For the test", "embedded", SIZE)
        source = protocol.Source("", scene.name, "Camera", frame_start, frame_end, fps)
        shot = protocol.Shot("010_0010", "Shot", camera, "", "", seed, preset, source)
        header = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes([0, 0, 0, 96, 0, 0, 0, 64])
        job = protocol.JobFolder.create(tmp_path / "jobs", shot, header)
        job.clip_mp4.write_bytes(numbered_clips[count].read_bytes())
        protocol.Clip(count, SIZE, pose_offset, preset.to_record(), seed, {}, {}).save(job.clip_json)
        return job

    return make
