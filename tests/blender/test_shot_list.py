# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot list: filled from markers, strips and files, edited, written, drawn."""

from types import SimpleNamespace

import bpy
import pytest

from tests.numbered_clip import SHORT
from tests.recording_layout import RecordingLayout


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


def test_a_scene_without_bound_markers_says_what_to_do(scene):
    with pytest.raises(RuntimeError, match="Bind Camera to Markers"):
        bpy.ops.sanawm.shots_from_markers()


def test_scene_strips_become_shots_of_the_scene_that_they_show(scene, addon):
    edit = bpy.data.scenes.new("Edit")
    strips = addon("compat").strips(edit.sequence_editor_create())
    first = strips.new_scene(name="010_0010", scene=scene, channel=1, frame_start=11)
    first.scene_camera = bpy.data.objects["Close"]
    addon("compat").set_strip_end(first, 61)
    updates = addon("shot_sources").from_strips(edit)
    assert list(updates) == [scene] and codes(edit) == []
    assert codes(scene) == ["010_0010"] and ranges(scene) == [(1, 50)]
    assert scene.sana_wm_shots[0].camera.name == "Close"


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
    notes = " ".join(update.notes)
    assert "Line 3 of shots.csv" in notes and "no camera Nobody" in notes and "no preset nothing" in notes
    shot = scene.sana_wm_shots[0]
    assert (shot.prompt, shot.seed, shot.preset, shot.camera.name) == ("fog", 3, "embedded", "Wide")


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


def test_a_list_begins_with_the_shot_in_the_panel_and_counts_on(scene):
    scene.sana_wm.prompt, scene.sana_wm.seed = "fog", 9
    for _ in range(3):
        bpy.ops.sanawm.add_shot()
    assert codes(scene) == ["010_0010", "010_0020", "010_0030"]
    assert {(shot.prompt, shot.seed) for shot in scene.sana_wm_shots} == {("fog", 9)}
    bpy.ops.sanawm.move_shot(direction="UP")
    assert codes(scene) == ["010_0010", "010_0030", "010_0020"] and scene.sana_wm_shot_index == 1
    bpy.ops.sanawm.remove_shot()
    assert codes(scene) == ["010_0010", "010_0020"]


@pytest.mark.parametrize(
    "code, taken, following",
    [
        ("010_0010", (), "010_0020"),
        ("010_0010", ("010_0020",), "010_0030"),
        ("shot7", (), "shot8"),
        ("a", (), "a_2"),
        ("a_9", (), "a_10"),
        ("0090", (), "0100"),
    ],
)
def test_the_next_code_is_free_and_as_one_writes_it(addon, code, taken, following):
    assert addon("shot_codes").next_code(code, taken) == following


def test_the_panels_show_the_active_shot(scene, addon):
    bpy.ops.sanawm.add_shot()
    bpy.ops.sanawm.add_shot()
    settings = addon("properties").shot_settings
    assert settings(scene).code == "010_0020"
    scene.sana_wm_shot_index = 0
    assert settings(scene).code == "010_0010"
    scene.sana_wm_shots[0].range_source = "CUSTOM"
    scene.sana_wm_shots[0].frame_start, scene.sana_wm_shots[0].camera = 33, bpy.data.objects["Close"]
    bpy.ops.sanawm.look_through_shot()
    assert scene.frame_current == 33 and scene.camera.name == "Close"


def test_the_list_is_saved_with_the_file(scene, tmp_path):
    bpy.ops.sanawm.add_shot()
    scene.sana_wm_shots[0].prompt = "fog"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "list.blend"))
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "list.blend"))
    assert [(shot.code, shot.prompt) for shot in bpy.context.scene.sana_wm_shots] == [("010_0010", "fog")]


def test_a_row_tells_what_became_of_its_shot(scene, addon, finished_job):
    bpy.ops.sanawm.add_shot()
    place = addon("sequencer").place_clip
    jobs = [finished_job(scene, SHORT, seed=seed) for seed in (7, 8)]
    strips = [place(scene, job) for job in jobs]
    row = addon("shot_rows").row_of(scene.sana_wm_shots[0])
    assert (row.take, row.clip) == (2, str(jobs[1].clip_mp4))
    addon("takes").pick(scene, strips[0])
    assert addon("shot_rows").row_of(scene.sana_wm_shots[0]).take == 1


@pytest.mark.parametrize("panel", ["SANAWM_PT_shots", "SANAWM_PT_shots_in_sequencer"])
def test_both_editors_show_the_list(scene, panel):
    context = SimpleNamespace(
        scene=scene, space_data=None, region=None, preferences=bpy.context.preferences, sequencer_scene=scene
    )
    layout = RecordingLayout()
    getattr(bpy.types, panel).draw(SimpleNamespace(layout=layout), context)
    bpy.ops.sanawm.add_shot()
    before = len(layout.shown)
    getattr(bpy.types, panel).draw(SimpleNamespace(layout=layout), context)
    assert len(layout.shown) > 2 * before, "with a shot there is something to move and to go to"


def test_an_entry_shows_its_code_and_its_range(scene):
    bpy.ops.sanawm.add_shot()
    layout = RecordingLayout()
    shot = scene.sana_wm_shots[0]
    bpy.types.SANAWM_UL_shots.draw_item(
        SimpleNamespace(), bpy.context, layout, scene, shot, 0, scene, "sana_wm_shot_index", 0
    )
    assert "1-200" in layout.shown
