# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs from Generate to the strip, with a real worker process; the timer's tick is called by hand."""

import os
import signal
import time

import bpy
import pytest

PATIENCE_S = 150


@pytest.fixture(autouse=True)
def workers_leave_soon(addon):
    addon("backend_process").IDLE_EXIT_S = 1


@pytest.fixture
def session(addon):
    return addon("session")


def wait_for(session, condition):
    """Tick until `condition` holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert not session.supervisor.trouble
        assert [j.record.reason for j in session.supervisor.jobs.values() if j.record.state == "failed"] == []
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(min(0.1, session.tick()))


def generate(session, scene):
    assert bpy.ops.sanawm.generate() == {"FINISHED"}
    return session.supervisor.latest(scene.session_uid)


def strip_names(scene):
    editor = scene.sequence_editor
    if editor is None:
        return []
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    return [strip.name for strip in strips if strip.type == "MOVIE"]


def longer(scene, seconds=2):
    scene.sana_wm.frame_end = scene.sana_wm.frame_start + seconds * scene.render.fps


def open_again(path):
    bpy.ops.wm.open_mainfile(filepath=str(path))
    return bpy.context.scene


def test_generate_places_a_strip(film, session):
    job = generate(session, film)
    assert not bpy.ops.sanawm.generate.poll()
    wait_for(session, lambda: job.is_settled)
    assert (job.record.state, job.trouble) == ("done", "")
    assert strip_names(film) == [job.name]
    assert job.stage and job.folder.clip_mp4.exists()

    second = generate(session, film)
    wait_for(session, lambda: second.is_settled)
    assert sorted(strip_names(film)) == ["010_0010-v001", "010_0010-v002"]


def test_one_undo_takes_the_strip_and_it_stays_away(film, session, tmp_path):
    bpy.ops.ed.undo_push(message="Before")
    job = generate(session, film)
    wait_for(session, lambda: job.is_settled)
    bpy.ops.ed.undo()
    scene = bpy.context.scene
    assert strip_names(scene) == [] and len(scene.objects) > 0
    for _ in range(3):
        session.tick()
    assert strip_names(scene) == []
    bpy.ops.wm.save_mainfile()
    scene = open_again(tmp_path / "film.blend")
    for _ in range(3):
        session.tick()
    assert strip_names(scene) == []


def test_cancel_stops_a_running_job(film, session):
    longer(film)
    job = generate(session, film)
    wait_for(session, lambda: job.record.state == "running")
    bpy.ops.sanawm.cancel()
    wait_for(session, lambda: not job.is_active)
    assert job.record.state == "cancelled"
    assert not job.folder.clip_mp4.exists() and strip_names(film) == []
    assert bpy.ops.sanawm.generate.poll()


def test_a_job_without_worker_is_cancelled_at_once(film, addon, session, tmp_path):
    shot, first_frame_png = addon("shots").export(bpy.context, bpy.context.scene.sana_wm)
    job = session.supervisor.submit(shot, first_frame_png)
    assert bpy.ops.sanawm.cancel() == {"FINISHED"}
    assert job.record.state == "cancelled"


@pytest.mark.skipif(os.name == "nt", reason="kills with a POSIX signal")
def test_a_killed_worker_is_replaced_and_the_job_ends_well(film, session):
    longer(film)
    job = generate(session, film)
    wait_for(session, lambda: job.record.state == "running")
    first_worker = job.record.worker
    os.kill(int(first_worker.rpartition(":")[2]), signal.SIGKILL)
    wait_for(session, lambda: job.record.worker not in ("", first_worker))
    wait_for(session, lambda: job.is_settled)
    assert job.record.state == "done" and strip_names(film) == [job.name]


def test_another_weights_folder_is_that_of_the_next_job(film, addon, session, tmp_path):
    addon("backend_process").IDLE_EXIT_S = 60
    preferences = addon("paths").preferences()
    film.sana_wm.preset = "sana_wm_final"
    shot, first_frame_png = addon("shots").export(bpy.context, film.sana_wm)
    for name in ("one", "two"):
        preferences.weights_folder = str(tmp_path / name)
        job = session.supervisor.submit(shot, first_frame_png)
        deadline = time.monotonic() + PATIENCE_S
        while job.is_active:
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(min(0.1, session.tick()))
        assert f"which are not in {tmp_path / name};" in job.record.reason
    preferences.weights_folder = ""


def test_a_job_goes_on_while_another_file_is_open(film, session, tmp_path):
    name = generate(session, film).name
    session.tick()
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    session.tick()
    assert session.supervisor.jobs == {}
    state = tmp_path / "sanawm" / name / "state.json"
    wait_for(session, lambda: '"done"' in state.read_text())

    scene = open_again(tmp_path / "film.blend")
    wait_for(session, lambda: strip_names(scene) == [name])
    assert session.supervisor.latest(scene.session_uid).name == name

    bpy.ops.wm.save_mainfile()
    scene = open_again(tmp_path / "film.blend")
    wait_for(session, lambda: session.supervisor.latest(scene.session_uid) is not None)
    wait_for(session, lambda: session.supervisor.latest(scene.session_uid).is_settled)
    assert strip_names(scene) == [name]


def test_a_strip_lost_with_an_unsaved_file_comes_back(film, session, tmp_path):
    job = generate(session, film)
    wait_for(session, lambda: job.is_settled)
    scene = open_again(tmp_path / "film.blend")
    assert strip_names(scene) == []
    wait_for(session, lambda: strip_names(scene) == [job.name])


def test_a_job_is_made_in_its_folder_while_the_file_is_saved_to_another(film, session, tmp_path):
    job = generate(session, film)
    (tmp_path / "elsewhere").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "elsewhere" / "film.blend"))
    film.name = "Renamed"
    wait_for(session, lambda: job.is_settled)
    assert job.folder.path == tmp_path / "sanawm" / job.name
    assert job.trouble == "" and strip_names(film) == [job.name]


@pytest.mark.skipif(os.name == "nt", reason="the broken interpreter is a shell script")
def test_a_backend_that_keeps_dying_fails_the_job_in_words(film, addon, session, tmp_path):
    broken = tmp_path / "broken" / "bin" / "python"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no torch here' >&2\nexit 1\n")
    broken.chmod(0o755)
    addon("paths").preferences().backend_folder = str(tmp_path / "broken")
    job = generate(session, film)
    now = time.monotonic()
    for _ in range(60):
        now += 1
        session.supervisor.tick(now)
        time.sleep(0.02)
    assert job.record.state == "failed"
    assert "stopped 3 times in a row: ModuleNotFoundError: no torch here" in job.record.reason


def test_a_folder_that_is_deleted_is_forgotten(film, addon, session, tmp_path):
    addon("paths").preferences().backend_folder = str(tmp_path / "nowhere")
    shot, first_frame_png = addon("shots").export(bpy.context, bpy.context.scene.sana_wm)
    job = session.supervisor.submit(shot, first_frame_png)
    job.folder.path.rename(tmp_path / "moved_away")
    session.tick()
    assert session.supervisor.latest(film.session_uid) is None


def test_the_worker_does_not_inherit_blenders_environment(addon, tmp_path):
    inherited = {
        "PATH": "/usr/bin",
        "OCIO": "/blender/config.ocio",
        "PYTHONPATH": "/blender/scripts",
        "BLENDER_USER_RESOURCES": "/somewhere",
        "LD_LIBRARY_PATH": os.pathsep.join([str(tmp_path / "lib"), "/opt/cuda/lib64"]),
    }
    kept = addon("backend_process").clean_environment(inherited, tmp_path)
    assert kept == {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/opt/cuda/lib64"}
