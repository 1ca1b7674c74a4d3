# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes of a shot in the sequencer: picked, set up again, gone on from, removed."""

import shutil
from types import SimpleNamespace

import bpy
import pytest

from tests.numbered_clip import SHORT
from tests.recording_layout import RecordingLayout


@pytest.fixture
def takes(addon):
    return addon("takes")


@pytest.fixture
def two_takes(empty_file, addon, finished_job):
    """A scene with two takes of a shot; its strips."""
    data = bpy.data.cameras.new("Camera")
    empty_file.collection.objects.link(bpy.data.objects.new("Camera", data))
    place = addon("sequencer").place_clip
    return [place(empty_file, finished_job(empty_file, SHORT, frame_start=11, seed=seed)) for seed in (7, 8)]


def strips(scene):
    editor = scene.sequence_editor
    return list(editor.strips if hasattr(editor, "strips") else editor.sequences)


def muted(scene):
    return {strip.name for strip in strips(scene) if strip.mute}


def activate(strip):
    bpy.context.scene.sequence_editor.active_strip = strip


def test_a_picked_take_shows_and_the_others_are_muted_with_their_effects(two_takes):
    scene, (first, second) = bpy.context.scene, two_takes
    activate(first)
    assert bpy.ops.sanawm.pick_take() == {"FINISHED"}
    assert muted(scene) == {second.name, f"{second.name} speed"}
    activate(second)
    bpy.ops.sanawm.pick_take()
    assert muted(scene) == {first.name, f"{first.name} speed"}


def test_takes_of_other_shots_and_foreign_strips_are_left_alone(two_takes, takes, addon, finished_job):
    scene = bpy.context.scene
    other = addon("sequencer").place_clip(scene, finished_job(scene, SHORT))
    other["sana_wm"]["shot"] = "020_0010"
    activate(two_takes[0])
    bpy.ops.sanawm.pick_take()
    assert not other.mute
    assert takes.takes_of(scene, "010_0010") == two_takes
    activate(next(strip for strip in strips(scene) if strip.type == "SPEED"))
    assert not bpy.ops.sanawm.pick_take.poll() and not bpy.ops.sanawm.remove_take.poll()


def test_a_removed_take_leaves_no_effect_and_keeps_its_job(two_takes, takes):
    scene, (first, second) = bpy.context.scene, two_takes
    folder = takes.job_of(first).path
    activate(first)
    assert bpy.ops.sanawm.remove_take() == {"FINISHED"}
    assert {strip.name for strip in strips(scene)} == {second.name, f"{second.name} speed"}
    assert (folder / "clip.mp4").is_file()


def test_a_shot_is_set_up_as_it_was_for_a_take(two_takes, takes):
    scene = bpy.context.scene
    settings = scene.sana_wm
    settings.code, settings.seed, settings.prompt, settings.negative_prompt = "090", 1, "later", "later"
    missing = takes.settings_again(scene, two_takes[1])
    assert (settings.code, settings.seed, settings.prompt) == ("010_0010", 8, "")
    assert (settings.negative_prompt, settings.range_source) == ("", "CUSTOM")
    assert settings.range_of(scene)[0] == 11 and settings.camera == bpy.data.objects["Camera"]
    assert missing == ["Its preset Test is not part of this version."]
    bpy.data.objects["Camera"].name = "Gone"
    assert "Its camera Camera is not in this file any more." in takes.settings_again(scene, two_takes[1])


def test_the_next_clip_begins_with_the_last_frame(two_takes, takes):
    scene, strip = bpy.context.scene, two_takes[0]
    activate(strip)
    with pytest.raises(RuntimeError, match="has lost its last frame"):
        bpy.ops.sanawm.go_on_from_take()
    last_frame = takes.job_of(strip).preview / "latest.png"
    last_frame.parent.mkdir()
    last_frame.write_bytes(b"picture")
    assert bpy.ops.sanawm.go_on_from_take() == {"FINISHED"}
    assert scene.sana_wm.first_frame_source == "IMAGE"
    assert bpy.path.abspath(scene.sana_wm.first_frame_path) == str(last_frame)


def test_a_take_whose_job_is_gone_says_so(two_takes, takes):
    shutil.rmtree(takes.job_of(two_takes[0]).path)
    activate(two_takes[0])
    with pytest.raises(RuntimeError, match="The job folder of .* is gone"):
        bpy.ops.sanawm.settings_of_take()


def test_the_sidebar_says_which_take_it_is_and_what_can_be_done(two_takes):
    activate(two_takes[1])
    panel, layout = bpy.types.SANAWM_PT_take, RecordingLayout()
    assert panel.poll(bpy.context)
    panel.draw(SimpleNamespace(layout=layout), bpy.context)
    shown = " ".join(layout.shown)
    assert f"{two_takes[1].name}, seed 8" in shown and "2 takes of 010_0010 here" in shown
    assert "Pick Take" in shown and "Remove Take" in shown
