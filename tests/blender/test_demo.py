# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's part in Blender: what it does to an earlier result."""

import bpy
import pytest

from tools import demo_in_blender

PRESET = "embedded"


@pytest.fixture
def output(tmp_path):
    """A demo_output with a result."""
    folder = tmp_path / "demo_output"
    (folder / "sanawm" / "demo-v001").mkdir(parents=True)
    for name in ("clip.mp4", "blender.log", "sanawm/demo-v001/shot.json"):
        (folder / name).write_text("earlier")
    return folder


def content(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("camera", "preset", "sentence"),
    [
        ("Shot Camara", PRESET, "has no camera named Shot Camara; its cameras: Flat, Shot Camera"),
        ("Shot Camera", "embeded", "no preset embeded that runs here; choose one of embedded, "),
        ("Flat", PRESET, "orthographic"),
    ],
)
def test_unusable_arguments_do_not_cost_the_earlier_result(film, output, tmp_path, camera, preset, sentence):
    flat = bpy.data.cameras.new("Flat")
    flat.type = "ORTHO"
    film.collection.objects.link(bpy.data.objects.new("Flat", flat))
    bpy.ops.wm.save_mainfile()
    before = content(output)
    with pytest.raises(demo_in_blender.DemoError, match=sentence):
        demo_in_blender.open_scene(tmp_path / "film.blend", camera, preset, output)
    assert content(output) == before


def test_a_usable_file_replaces_the_earlier_result(film, output, tmp_path):
    saved = demo_in_blender.open_scene(tmp_path / "film.blend", "Shot Camera", PRESET, output)
    assert bpy.data.filepath == str(saved)
    assert content(output) == ["blender.log", "film.blend"]
