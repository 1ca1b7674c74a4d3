# SPDX-License-Identifier: GPL-3.0-or-later
"""Shots from markers, scene strips and files, into the list and out again; asking again updates."""

from types import SimpleNamespace

import bpy
import pytest


@pytest.fixture
def scene(empty_file):
    empty_file.frame_start, empty_file.frame_end = 1, 200
    for name in ("Wide", "Close"):
        empty_file.collection.objects.link(bpy.data.objects.new(name, bpy.data.cameras.new(name)))
    empty_file.camera = bpy.data.objects["Wide"]
    return empty_file


def codes(scene):
    return [shot.code for shot in scene.sana_wm_shots]


def ranges(scene):
    return [shot.range_of(scene) for shot in scene.sana_wm_shots]


def bind(scene, name, frame, camera):
    marker = scene.timeline_markers.new(name, frame=frame)
    marker.camera = bpy.data.objects[camera]
    return marker


def strip(addon, edit, scene, name, start, end):
    """A strip of an edit that shows a scene."""
    made = (
        addon("compat")
        .strips(edit.sequence_editor_create())
        .new_scene(name=name, scene=scene, channel=1, frame_start=start)
    )
    addon("compat").set_strip_end(made, end)
    return made


def test_markers_become_shots_that_end_before_the_next(scene):
    bind(scene, "010_0020", 81, "Close")
    bind(scene, "010_0010", 1, "Wide")
    scene.timeline_markers.new("a note", frame=40)
    assert bpy.ops.sanawm.shots_from_markers() == {"FINISHED"}
    assert codes(scene) == ["010_0010", "010_0020"]
    assert ranges(scene) == [(1, 80), (81, 200)]
    assert [shot.camera.name for shot in scene.sana_wm_shots] == ["Wide", "Close"]


def test_asking_again_updates_and_keeps_what_the_artist_wrote(scene):
    bind(scene, "010_0010", 1, "Wide")
    later = bind(scene, "010_0020", 81, "Close")
    bpy.ops.sanawm.shots_from_markers()
    scene.sana_wm_shots[1].prompt, scene.sana_wm_shots[1].seed = "rain", 5
    later.frame = 101
    bpy.ops.sanawm.shots_from_markers()
    assert codes(scene) == ["010_0010", "010_0020"] and ranges(scene) == [(1, 100), (101, 200)]
    assert (scene.sana_wm_shots[1].prompt, scene.sana_wm_shots[1].seed) == ("rain", 5)


def test_markers_without_a_name_are_given_codes_and_keep_them(scene):
    for name, frame in (("F_01", 1), ("F_81", 81), ("gate", 91), ("Marker", 101)):
        bind(scene, name, frame, "Wide")
    bpy.ops.sanawm.shots_from_markers()
    made = ["010_0010", "010_0020", "gate", "010_0030"]
    assert codes(scene) == made == [marker.name for marker in scene.timeline_markers]
    bind(scene, "F_40", 40, "Close")
    bpy.ops.sanawm.shots_from_markers()
    by_code = {shot.code: shot.range_of(scene) for shot in scene.sana_wm_shots}
    assert (by_code["010_0010"], by_code["010_0040"], by_code["010_0020"]) == ((1, 39), (40, 80), (81, 90))


def test_a_marker_of_a_hidden_camera_or_behind_the_end_makes_no_shot(scene, addon):
    bind(scene, "a", 1, "Wide")
    bind(scene, "hidden", 50, "Close")
    bpy.data.objects["Close"].hide_render = True
    bind(scene, "late", 201, "Wide")
    update = addon("shot_sources").from_markers(scene)
    assert codes(scene) == ["a"] and ranges(scene) == [(1, 200)]
    assert update.left_out == ["The marker late stands behind the scene's end, frame 200."]


def test_a_scene_without_bound_markers_says_what_to_do(scene):
    with pytest.raises(RuntimeError, match="Bind Camera to Markers"):
        bpy.ops.sanawm.shots_from_markers()


def test_scene_strips_become_shots_of_the_scene_that_they_show(scene, addon):
    edit = bpy.data.scenes.new("Edit")
    first = strip(addon, edit, scene, "010_0010", 11, 61)
    first.scene_camera = bpy.data.objects["Close"]
    later = strip(addon, edit, scene, "Scene.001", 61, 111)
    addon("compat").set_strip_start(later, 71)
    updates = addon("shot_sources").from_strips(edit)
    assert list(updates) == [scene] and codes(edit) == []
    assert codes(scene) == ["010_0010", "010_0020"] and ranges(scene) == [(1, 50), (11, 50)]
    assert [shot.camera.name for shot in scene.sana_wm_shots] == ["Close", "Wide"]
    assert later.name == "010_0020", "a strip without a name of its own is known by its shot's code"


def test_a_strip_whose_content_is_cut_shows_later_frames(scene, addon):
    edit = bpy.data.scenes.new("Edit")
    cut = strip(addon, edit, scene, "a", 1, 51)
    trim = "content_trim_start" if hasattr(cut, "content_trim_start") else "animation_offset_start"
    setattr(cut, trim, 20)
    addon("compat").set_strip_end(cut, addon("compat").strip_extent(cut)[0] + 30)
    addon("shot_sources").from_strips(edit)
    assert ranges(scene) == [(21, 50)]


def test_strips_that_show_no_camera_are_left_out_by_name(scene, addon):
    edit = bpy.data.scenes.new("Edit")
    strip(addon, edit, scene, "a", 1, 51)
    strip(addon, edit, scene, "edited", 51, 101).scene_input = "SEQUENCER"
    update = addon("shot_sources").from_strips(edit)[scene]
    assert codes(scene) == ["a"]
    assert (
        update.in_words()
        == "1 added, 0 updated, 1 left out. edited shows the sequencer of Scene, not its camera."
    )


def test_the_sequencer_of_an_edit_shows_the_list_of_the_scene_in_its_strips(scene, addon):
    edit = bpy.data.scenes.new("Edit")
    strip(addon, edit, scene, "a", 1, 51)
    addon("shot_sources").from_strips(edit)
    list_scene = addon("operators.shot_list").list_scene
    sequencer = SimpleNamespace(
        scene=edit, sequencer_scene=edit, space_data=SimpleNamespace(type="SEQUENCE_EDITOR")
    )
    assert list_scene(sequencer) == scene
    sequencer.space_data.type = "VIEW_3D"
    assert list_scene(sequencer) == edit


def test_a_bad_row_is_named_and_the_others_are_there(scene, tmp_path, addon):
    path = tmp_path / "shots.csv"
    path.write_text(
        "code,camera,start,end,prompt,preset,seed\n"
        "010_0010,Wide,1,80,fog,embedded,3\n"
        "010_0020,Close,eighty,120,,,\n"
        "010_0030,Nobody,121,160,,nothing,\n",
        "utf-8",
    )
    update = addon("shot_sources").from_file(scene, path)
    assert codes(scene) == ["010_0010", "010_0030"] == update.added
    doubts = " ".join(update.doubts)
    assert "no camera Nobody" in doubts and "no preset nothing" in doubts
    assert update.in_words().startswith(
        "2 added, 0 updated, 1 left out, 2 to look at. Line 3 of shots.csv is left"
    )
    shot = scene.sana_wm_shots[0]
    assert (shot.prompt, shot.seed, shot.preset, shot.camera.name) == ("fog", 3, "embedded", "Wide")


def test_empty_cells_are_the_scenes_own_and_change_nothing_later(scene, tmp_path, addon):
    scene.sana_wm.seed, scene.sana_wm.prompt, scene.sana_wm.range_source = 9, "fog", "CUSTOM"
    path = tmp_path / "shots.csv"
    path.write_text("code,seed,prompt,start,end\na,,,,\nb,4,rain,5,60\n", "utf-8")
    addon("shot_sources").from_file(scene, path)
    told = [(shot.seed, shot.prompt, shot.range_of(scene), shot.camera.name) for shot in scene.sana_wm_shots]
    assert told == [(9, "fog", (1, 200), "Wide"), (4, "rain", (5, 60), "Wide")]
    path.write_text("code,seed,prompt,start,end\nb,0,,,\n", "utf-8")
    assert addon("shot_sources").from_file(scene, path).in_words() == "0 added, 1 updated"
    shot = scene.sana_wm_shots[1]
    assert (shot.seed, shot.prompt, shot.range_of(scene)) == (0, "rain", (5, 60))


def test_a_list_finds_the_pictures_beside_it(scene, tmp_path, addon):
    (tmp_path / "refs").mkdir()
    path = tmp_path / "shots.csv"
    path.write_text("code,first_frame\na,refs/gate.png\nb,//gate.png\n", "utf-8")
    addon("shot_sources").from_file(scene, path)
    chosen = [shot.first_frame_path for shot in scene.sana_wm_shots]
    assert chosen == [str(tmp_path / "refs" / "gate.png"), "//gate.png"]
    assert scene.sana_wm_shots[0].first_frame_source == "IMAGE"
    addon("shot_sources").to_file(scene, path)
    assert ",refs/gate.png," in path.read_text("utf-8-sig")


@pytest.mark.parametrize("ending", [".otio", ".edl"])
def test_shots_of_the_same_time_follow_one_another_in_an_edit(scene, tmp_path, addon, ending):
    for code in ("b", "a"):
        shot = addon("shot_list").add_shot(scene, code, scene.sana_wm)
        shot.range_source, shot.frame_start, shot.frame_end = "CUSTOM", 11, 30
    path = tmp_path / f"shots{ending}"
    addon("shot_sources").to_file(scene, path)
    scene.sana_wm_shots.clear()
    addon("shot_sources").from_file(scene, path)
    assert codes(scene) == ["b", "a"] and ranges(scene) == [(11, 30), (11, 30)]


@pytest.mark.parametrize("ending", [".csv", ".otio", ".edl"])
def test_a_written_list_comes_back(scene, tmp_path, ending):
    bind(scene, "010_0010", 1, "Wide")
    bind(scene, "010_0020", 81, "Close")
    bpy.ops.sanawm.shots_from_markers()
    scene.sana_wm_shots[1].prompt, scene.sana_wm_shots[1].takes = "rain", 3
    path = tmp_path / f"shots{ending}"
    assert bpy.ops.sanawm.write_shots(filepath=str(path), format=ending) == {"FINISHED"}
    scene.sana_wm_shots.clear()
    assert bpy.ops.sanawm.shots_from_file(filepath=str(path)) == {"FINISHED"}
    assert codes(scene) == ["010_0010", "010_0020"] and ranges(scene) == [(1, 80), (81, 200)]
    if ending != ".edl":
        assert scene.sana_wm_shots[1].camera.name == "Close"
        assert (scene.sana_wm_shots[1].prompt, scene.sana_wm_shots[1].takes) == ("rain", 3)


def test_a_file_of_another_kind_is_refused(scene, tmp_path):
    (tmp_path / "shots.xlsx").write_text("x")
    with pytest.raises(RuntimeError, match="none of the files that hold shots"):
        bpy.ops.sanawm.shots_from_file(filepath=str(tmp_path / "shots.xlsx"))
