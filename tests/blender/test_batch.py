# SPDX-License-Identifier: GPL-3.0-or-later
"""Many shots: queued with their takes, in an order that can be changed, told apart from those that changed since."""

from types import SimpleNamespace

import bpy
import pytest

from tests.recording_layout import RecordingLayout


@pytest.fixture
def session(addon, film, tmp_path):
    """The running session of a saved file whose list has two shots; no worker can be started."""
    session = addon("session")
    session.supervisor.reload()
    addon("paths").preferences().backend_folder = str(tmp_path / "nowhere")
    for _ in range(2):
        bpy.ops.sanawm.add_shot()
    return session


@pytest.fixture
def batch(addon, session):
    return addon("batch")


def finish(job, protocol):
    """As a worker would leave the folder."""
    for state in ("loading", "running"):
        job.folder.state_file.move(state, "Working.")
    job.folder.clip_mp4.write_bytes(b"clip")
    preset = job.folder.shot().preset
    protocol.Clip(17, preset.image_size, 0, preset.to_record(), 0, {}, {}).save(job.folder.clip_json)
    job.folder.state_file.move("done", "17 frames.")


def follow(session, job):
    session.supervisor._follow(job)
    job.is_settled = True  # the strip is another test's business


def test_takes_are_jobs_of_their_own_with_seeds_that_count_up(session, batch):
    scene = bpy.context.scene
    scene.sana_wm_shots[0].takes, scene.sana_wm_shots[0].seed = 3, 40
    outcome = batch.submit_all(bpy.context, list(scene.sana_wm_shots))
    names = [job.name for job in outcome.queued]
    assert names == ["010_0010-v001", "010_0010-v002", "010_0010-v003", "010_0020-v001"]
    assert [job.folder.shot().seed for job in outcome.queued] == [40, 41, 42, 0]
    assert len({job.request_id for job in outcome.queued}) == 4
    assert outcome.in_words() == "4 jobs queued."


def test_one_bad_shot_is_named_and_does_not_stop_the_others(session, batch):
    scene = bpy.context.scene
    scene.sana_wm_shots[0].frame_end = 0
    outcome = batch.submit_all(bpy.context, list(scene.sana_wm_shots))
    assert [job.shot_code for job in outcome.queued] == ["010_0020"]
    assert outcome.in_words().startswith("1 job queued, 1 left out: 010_0010: The range ends at frame 0")
    again = batch.submit_all(bpy.context, [scene.sana_wm_shots[1]])
    assert again.left_out == [("010_0020", "its clip is being made.")]
    script_made = scene.sana_wm_shots.add()
    assert script_made.code == scene.sana_wm_shots[0].code, "only what is typed is told apart by itself"
    twice = batch.submit_all(bpy.context, [scene.sana_wm_shots[0], scene.sana_wm_shots[2]])
    assert {reason for _code, reason in twice.left_out} == {"another shot has this code; give each its own."}


def test_the_queue_changes_its_order_and_survives_a_restart(session, batch):
    scene = bpy.context.scene
    scene.sana_wm_shots[0].takes = 2
    batch.submit_all(bpy.context, list(scene.sana_wm_shots))
    supervisor = session.supervisor
    last = supervisor.queue()[-1]
    assert bpy.ops.sanawm.move_job(job=last.request_id, direction="UP") == {"FINISHED"}
    bpy.ops.sanawm.move_job(job=last.request_id, direction="UP")
    bpy.ops.sanawm.move_job(job=last.request_id, direction="UP")
    order = [job.name for job in supervisor.queue()]
    assert order == ["010_0020-v001", "010_0010-v001", "010_0010-v002"]
    supervisor.reload()
    supervisor.tick(0)
    assert [job.name for job in supervisor.queue()] == order


def test_waiting_jobs_are_cancelled_and_one_is_tried_again(session, batch):
    scene = bpy.context.scene
    jobs = batch.submit_all(bpy.context, list(scene.sana_wm_shots)).queued
    assert bpy.ops.sanawm.cancel_waiting() == {"FINISHED"}
    assert [job.record.state for job in jobs] == ["cancelled", "cancelled"]
    assert batch.failed(scene) == list(scene.sana_wm_shots)
    assert bpy.ops.sanawm.retry_job(job=jobs[1].request_id) == {"FINISHED"}
    assert [job.name for job in session.supervisor.queue()] == [jobs[1].name]
    assert not jobs[1].folder.cancel_requested()


def test_what_changed_since_is_named_and_made_again(session, batch, addon, protocol):
    scene, staleness = bpy.context.scene, addon("staleness")
    jobs = batch.submit_all(bpy.context, list(scene.sana_wm_shots)).queued
    for job in jobs:
        finish(job, protocol)
        follow(session, job)
    first, second = scene.sana_wm_shots
    assert batch.stale(bpy.context) == ([], []), "an export of the same scene is the same"

    first.prompt = "rain"
    assert staleness.known_changes(first, jobs[0].folder) == ["prompt"]
    camera = addon("camera").shot_camera(scene, None, *second.range_of(scene))
    camera.data.sensor_width += 2
    assert staleness.look_for_changes(bpy.context, second, jobs[1].folder) == ["lens"]
    assert staleness.known_changes(second, jobs[1].folder) == ["lens"]
    camera.data.sensor_width -= 2
    next(o for o in scene.objects if o.type == "MESH" and not o.animation_data).location.z += 0.5
    assert staleness.look_for_changes(bpy.context, second, jobs[1].folder) == ["blockout"]
    stale, unknown = batch.stale(bpy.context)
    assert stale == [first, second] and not unknown
    assert staleness.in_words(["camera", "prompt"]) == "Camera and prompt changed since this clip was made."


def test_saving_loading_and_editing_modes_leave_a_clip_up_to_date(session, batch, protocol):
    (job,) = batch.submit_all(bpy.context, [bpy.context.scene.sana_wm_shots[0]]).queued
    finish(job, protocol)
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=bpy.data.filepath)
    session.supervisor.look_around()
    scene = bpy.context.scene
    bpy.context.view_layer.objects.active = next(o for o in scene.objects if o.type == "MESH")
    bpy.ops.object.mode_set(mode="EDIT")
    scene.frame_set(5)
    stale, unknown = batch.stale(bpy.context)
    bpy.ops.object.mode_set(mode="OBJECT")
    assert stale == [scene.sana_wm_shots[1]] and not unknown, "the other shot has no clip yet"


def test_a_redo_that_failed_leaves_the_clip_before_it_up_to_date(session, batch, protocol):
    shot = bpy.context.scene.sana_wm_shots[0]
    (made,) = batch.submit_all(bpy.context, [shot]).queued
    finish(made, protocol)
    follow(session, made)
    (redo,) = batch.submit_all(bpy.context, [shot]).queued
    redo.folder.state_file.move("failed", "The disk is full.")
    follow(session, redo)
    assert batch.last_clip(shot) is made and batch.failed(bpy.context.scene) == [shot]
    assert shot not in batch.stale(bpy.context)[0]


def test_an_image_is_told_by_what_it_shows_not_by_where_it_lies(session, batch, addon, protocol, tmp_path):
    shot, staleness = bpy.context.scene.sana_wm_shots[0], addon("staleness")
    image = bpy.data.images.new("paint", *addon("camera").render_size(bpy.context.scene))
    places = [tmp_path / folder / "paint.png" for folder in ("here", "there")]
    for place in places:
        image.save(filepath=str(place))
    shot.first_frame_source, shot.first_frame_path = "IMAGE", str(places[0])
    (job,) = batch.submit_all(bpy.context, [shot]).queued
    finish(job, protocol)
    follow(session, job)
    shot.first_frame_path = str(places[1])
    assert shot not in batch.stale(bpy.context)[0], "the project was moved"
    image.pixels[0] = 1.0
    image.save(filepath=str(places[1]))
    assert staleness.look_for_changes(bpy.context, shot, job.folder) == ["first frame"]
    shot.first_frame_source = "RENDER"
    assert staleness.cheap_changes(shot, job.folder) == ["first frame"]


def test_a_moved_camera_makes_a_clip_stale(session, batch, addon, protocol):
    scene, staleness = bpy.context.scene, addon("staleness")
    (job,) = batch.submit_all(bpy.context, [scene.sana_wm_shots[0]]).queued
    finish(job, protocol)
    follow(session, job)
    camera = addon("camera").shot_camera(scene, None, *scene.sana_wm_shots[0].range_of(scene))
    rig = camera.parent or camera
    rig.delta_location.x += 0.001
    assert "camera" in staleness.look_for_changes(bpy.context, scene.sana_wm_shots[0], job.folder)


def test_the_operator_says_how_many_it_queued(session, addon):
    addon("paths").preferences().backend_folder = str(addon("paths").EXTENSION_ROOT)
    assert not bpy.ops.sanawm.generate_shots.poll(), "without a backend there is nothing to queue for"


def test_the_panel_lists_what_waits_and_what_went_wrong(session, batch):
    scene = bpy.context.scene
    jobs = batch.submit_all(bpy.context, list(scene.sana_wm_shots)).queued
    jobs[0].folder.state_file.move("failed", "The disk is full.")
    follow(session, jobs[0])
    layout = RecordingLayout()
    bpy.types.SANAWM_PT_batch.draw(SimpleNamespace(layout=layout), bpy.context)
    shown = " / ".join(layout.shown)
    assert jobs[1].name in shown and f"{jobs[0].name} failed" in shown and "The disk is full." in shown


def test_a_take_that_went_wrong_is_shown_until_its_shot_is_asked_for_again(session, batch, protocol):
    shot = bpy.context.scene.sana_wm_shots[0]
    shot.takes = 2
    first, second = batch.submit_all(bpy.context, [shot]).queued
    first.folder.state_file.move("failed", "The disk is full.")
    follow(session, first)
    finish(second, protocol)
    follow(session, second)
    assert session.supervisor.went_wrong() == [first], "the second take does not hide the first"
    batch.submit_all(bpy.context, [shot])
    assert session.supervisor.went_wrong() == []


def test_jobs_of_another_scene_are_in_reach(session, batch):
    jobs = batch.submit_all(bpy.context, list(bpy.context.scene.sana_wm_shots)).queued
    bpy.context.window.scene = bpy.data.scenes.new("Other")
    assert bpy.types.SANAWM_PT_batch.poll(bpy.context)
    layout = RecordingLayout()
    bpy.types.SANAWM_PT_batch.draw(SimpleNamespace(layout=layout), bpy.context)
    assert jobs[0].name in layout.shown and "Stale" not in layout.shown
