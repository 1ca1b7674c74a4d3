# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot list in the editors: edited, searched, drawn, saved, and what became of its shots."""

from dataclasses import replace
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


def drawn_in(scene, region=None):
    """The context of a sequencer's sidebar."""
    return SimpleNamespace(
        scene=scene,
        space_data=None,
        region=region,
        preferences=bpy.context.preferences,
        sequencer_scene=scene,
    )


def codes(scene):
    return [shot.code for shot in scene.sana_wm_shots]


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


def test_a_copy_stands_behind_its_shot_with_a_free_code(scene):
    for _ in range(6):
        bpy.ops.sanawm.add_shot()
    scene.sana_wm_shot_index = 1
    scene.sana_wm_shots[1].prompt, scene.sana_wm_shots[1].camera = "rain", bpy.data.objects["Close"]
    assert bpy.ops.sanawm.duplicate_shot() == {"FINISHED"}
    assert codes(scene)[:4] == ["010_0010", "010_0020", "010_0070", "010_0030"]
    assert scene.sana_wm_shot_index == 2
    copy = scene.sana_wm_shots[2]
    assert (copy.prompt, copy.camera.name) == ("rain", "Close")


def test_a_code_that_is_taken_counts_on(scene):
    for _ in range(3):
        bpy.ops.sanawm.add_shot()
    scene.sana_wm_shots[0].code = "010_0020"
    assert codes(scene) == ["010_0040", "010_0020", "010_0030"]
    scene.sana_wm.code = "010_0020"
    assert scene.sana_wm.code == "010_0020", "the scene's own shot is not in the list"


def test_an_added_shot_keeps_its_camera_when_another_is_looked_at(scene):
    bpy.ops.sanawm.add_shot()
    bpy.ops.sanawm.add_shot()
    scene.sana_wm_shots[1].camera = bpy.data.objects["Close"]
    bpy.ops.sanawm.look_through_shot()
    assert scene.camera.name == "Close" and scene.sana_wm_shots[0].camera.name == "Wide"


def test_an_empty_list_shows_the_scenes_own_shot_again(scene, addon):
    bpy.ops.sanawm.add_shot()
    scene.sana_wm_shots[0].prompt = "rain"
    bpy.ops.sanawm.remove_shot()
    assert addon("properties").shot_settings(scene) == scene.sana_wm and scene.sana_wm.prompt == ""
    assert not bpy.ops.sanawm.remove_shot.poll() and not bpy.ops.sanawm.write_shots.poll()


def test_what_is_done_to_the_list_is_undone(scene):
    bpy.ops.ed.undo_push(message="Before")
    bpy.ops.sanawm.add_shot("EXEC_DEFAULT", True)
    bpy.ops.sanawm.add_shot("EXEC_DEFAULT", True)
    bpy.ops.ed.undo()
    assert codes(bpy.context.scene) == ["010_0010"]
    bpy.ops.ed.undo()
    assert codes(bpy.context.scene) == []


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
    scene.timeline_markers.new("cut", frame=33).camera = bpy.data.objects["Wide"]
    bpy.ops.sanawm.look_through_shot()
    assert scene.frame_current == 33 and scene.camera.name == "Close"


def test_the_list_is_saved_with_the_file(scene, tmp_path):
    bpy.ops.sanawm.add_shot()
    scene.sana_wm_shots[0].prompt = "fog"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "list.blend"))
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "list.blend"))
    assert [(shot.code, shot.prompt) for shot in bpy.context.scene.sana_wm_shots] == [("010_0010", "fog")]


def test_a_row_tells_what_became_of_its_shot(scene, addon, finished_job, protocol):
    bpy.ops.sanawm.add_shot()
    shot, rows = scene.sana_wm_shots[0], addon("shot_rows")
    assert (rows.row_of(shot).take, rows.row_of(shot).clip, rows.match_icon(shot)) == (0, "", "")
    jobs = [finished_job(scene, SHORT, seed=seed) for seed in (7, 8)]
    clip = jobs[0].clip()
    replace(clip, match=protocol.CameraMatch(unmeasured="it is too dark.")).save(jobs[0].clip_json)
    strips = [addon("sequencer").place_clip(scene, job) for job in jobs]
    row = rows.row_of(shot)
    assert (row.take, row.clip, row.match) == (2, str(jobs[1].clip_mp4), "")
    assert rows.match_icon(shot) == "SEQUENCE"
    addon("takes").pick(scene, strips[0])
    row = rows.row_of(shot)
    assert (row.take, row.version_name, row.match) == (1, "010_0010-v001", "Not measured: it is too dark.")
    assert rows.match_icon(shot) == "QUESTION"


def test_names_of_jobs_count_up_for_each_shot(film, addon):
    session, batch = addon("session"), addon("batch")
    session.supervisor.reload()
    for _ in range(2):
        bpy.ops.sanawm.add_shot()
    first, second = film.sana_wm_shots
    for code in ("010_0010", "010_0030"):
        film.sana_wm_shots[code == "010_0030"].code = code
    jobs = [batch.submit(bpy.context, shot, 1)[0] for shot in (first, second, first, first, second)]
    names = ["010_0010-v001", "010_0030-v001", "010_0010-v002", "010_0010-v003", "010_0030-v002"]
    assert [job.name for job in jobs] == names
    status_of, row_of = addon("shot_rows").status_of, addon("shot_rows").row_of
    assert [status_of(shot)[0] for shot in (first, second)] == ["queued", "queued"]
    jobs[4].folder.state_file.move("loading", "Loading.")
    jobs[4].folder.state_file.move("running", "Making frames.")
    session.supervisor.tick(0)
    jobs[4].seconds_left = 1e9
    assert status_of(second)[0] == "0 %" and row_of(second).status == "running"
    assert row_of(first).status == "queued"


def test_the_settings_of_a_take_go_to_its_shot_and_no_other(scene, addon, finished_job):
    for _ in range(2):
        bpy.ops.sanawm.add_shot()
    take = addon("sequencer").place_clip(scene, finished_job(scene, SHORT, frame_start=21, seed=8))
    addon("takes").settings_again(scene, take)
    first, second = scene.sana_wm_shots
    assert scene.sana_wm_shot_index == 0 and codes(scene) == ["010_0010", "010_0020"]
    assert (first.seed, first.range_of(scene)[0]) == (8, 21)
    assert (second.seed, second.range_of(scene)[0]) == (0, 1)
    scene.sana_wm_shots.remove(0)
    addon("takes").settings_again(scene, take)
    assert codes(scene) == ["010_0020", "010_0010"] and scene.sana_wm_shot_index == 1


def test_the_list_is_searched_and_shown_in_another_order(scene):
    for code, name, start in (("b", "The Gate", 1), ("c", "", 41), ("a", "Attic", 21)):
        bpy.ops.sanawm.add_shot()
        shot = scene.sana_wm_shots[-1]
        shot.code, shot.name = code, name
        shot.range_source, shot.frame_start = "CUSTOM", start
    scene.sana_wm_shots[1].camera = bpy.data.objects["Close"]

    def shown(text, order):
        ui_list = SimpleNamespace(filter_name=text, order=order, bitflag_filter_item=1)
        return bpy.types.SANAWM_UL_shots.filter_items(ui_list, bpy.context, scene, "sana_wm_shots")

    assert shown("", "LIST") == ([], [])
    assert shown("gate", "LIST")[0] == [1, 0, 0] and shown("CLOSE", "LIST")[0] == [0, 1, 0]
    assert shown("", "CODE")[1] == [1, 2, 0] and shown("", "START")[1] == [0, 2, 1]


@pytest.mark.parametrize("panel", ["SANAWM_PT_shots", "SANAWM_PT_shots_in_sequencer"])
def test_both_editors_show_the_list(scene, panel, addon, finished_job, protocol):
    context = drawn_in(scene)
    layout = RecordingLayout()
    getattr(bpy.types, panel).draw(SimpleNamespace(layout=layout), context)
    assert "Name" not in layout.shown
    bpy.ops.sanawm.add_shot()
    job = finished_job(scene, SHORT)
    replace(job.clip(), match=protocol.CameraMatch(unmeasured="it is too dark.")).save(job.clip_json)
    addon("sequencer").place_clip(scene, job)
    layout = RecordingLayout()
    getattr(bpy.types, panel).draw(SimpleNamespace(layout=layout), context)
    assert "Name" in layout.shown and "Not measured: it is too dark." in layout.shown


@pytest.mark.parametrize(
    "width, columns",
    [(280, ["Selected", "Shot Code", "1-200"]), (600, ["Selected", "Shot Code", "Name", "1-200"])],
)
def test_an_entry_shows_more_where_there_is_room(scene, width, columns):
    bpy.ops.sanawm.add_shot()
    layout = RecordingLayout()
    context = drawn_in(scene, region=SimpleNamespace(width=width))
    bpy.types.SANAWM_UL_shots.draw_item(
        SimpleNamespace(), context, layout, scene, scene.sana_wm_shots[0], 0, scene, "sana_wm_shot_index", 0
    )
    assert [text for text in layout.shown if text] == columns


def test_the_menu_offers_every_way_in_and_out(scene):
    menu = RecordingLayout()
    bpy.types.SANAWM_MT_shots.draw(SimpleNamespace(layout=menu), bpy.context)
    assert menu.shown == [
        "From Markers",
        "From Scene Strips",
        "From File",
        "Duplicate Shot",
        "Write Shot List",
    ]
