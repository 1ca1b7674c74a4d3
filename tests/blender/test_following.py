# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose job it is: Save As, copies, new names and deleted scenes. No worker: the clips are brought by hand."""

import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest

ROOT = Path(__file__).parents[2]
FRAMES = 9
BLACK_CLIP = """
import sys
from pathlib import Path
import numpy as np
from backend.video import ClipWriter
target, count = Path(sys.argv[1]), int(sys.argv[2])
with ClipWriter(target.parent / "preview", (96, 64), 16, {}) as writer:
    writer.write(np.zeros((count, 64, 96, 3), np.uint8))
    writer.finish(target)
"""


@pytest.fixture(scope="session")
def clip_mp4(backend_python, tmp_path_factory):
    clip = tmp_path_factory.mktemp("clip") / "clip.mp4"
    command = [str(backend_python), "-c", BLACK_CLIP, str(clip), str(FRAMES)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    return clip


@pytest.fixture
def finish(protocol, clip_mp4):
    """Makes a job done, as a worker would."""

    def make(folder):
        for state in ("loading", "running"):
            folder.state_file.move(protocol.JobState(state), f"It is {state}.")
        shutil.copyfile(clip_mp4, folder.clip_mp4)
        protocol.Clip(FRAMES, (96, 64), 0, {}, 0, {}, {}).save(folder.clip_json)
        folder.state_file.move(protocol.JobState("done"), "It is done.")

    return make


@pytest.fixture
def session(addon):
    return addon("session")


@pytest.fixture
def ask(addon, session):
    """Asks for a clip of the open scene, as Generate does where a backend is there."""

    def make():
        return session.supervisor.submit(*addon("shots").export(bpy.context, bpy.context.scene.sana_wm))

    return make


@pytest.fixture(autouse=True)
def no_worker(film, addon, tmp_path):
    addon("paths").preferences().backend_folder = str(tmp_path / "nowhere")


def save_as(path):
    path.parent.mkdir(exist_ok=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(path))


def open_file(session, path):
    bpy.ops.wm.open_mainfile(filepath=str(path))
    tick(session)
    return bpy.context.scene


def tick(session):
    for _ in range(3):
        session.tick()


def clip_strips(scene):
    editor = scene.sequence_editor
    strips = (editor.strips if hasattr(editor, "strips") else editor.sequences) if editor else ()
    return [strip for strip in strips if strip.type == "MOVIE"]


def taken(scene):
    """The clip files in the sequencer, wherever the .blend lies."""
    return sorted(os.path.realpath(bpy.path.abspath(strip.filepath)) for strip in clip_strips(scene))


def latest(session, scene):
    return session.supervisor.latest(scene.session_uid)


class Labels:
    """A layout that keeps what is written into it."""

    def __init__(self, said=None):
        self.said = [] if said is None else said

    def __getattr__(self, _name):
        return lambda *_args, **_options: Labels(self.said)

    def label(self, text="", **_options):
        self.said.append(text)


def panel():
    layout = Labels()
    bpy.types.SANAWM_PT_clip.draw(SimpleNamespace(layout=layout), bpy.context)
    return " ".join(layout.said)


@pytest.mark.parametrize("new_file", ["elsewhere/film.blend", "film_002.blend"])
def test_save_as_takes_the_job_along_and_each_file_gets_the_clip_once(
    film, session, ask, finish, tmp_path, new_file
):
    job = ask()
    save_as(tmp_path / new_file)
    tick(session)
    assert session.active_job(film) is job
    finish(job.folder)
    tick(session)
    clip = [os.path.realpath(job.folder.clip_mp4)]
    assert job.trouble == "" and taken(film) == clip
    bpy.ops.wm.save_mainfile()

    for file in (tmp_path / new_file, tmp_path / "film.blend"):
        for _ in range(2):
            scene = open_file(session, file)
            assert taken(scene) == clip, file
            assert latest(session, scene).name == job.name
            bpy.ops.wm.save_mainfile()


@pytest.mark.parametrize("done_before_opening", [True, False])
def test_a_file_saved_elsewhere_finds_its_running_job_when_it_is_opened_again(
    film, session, ask, finish, tmp_path, done_before_opening
):
    job = ask()
    film.name = "Renamed"
    save_as(tmp_path / "elsewhere" / "film.blend")
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    tick(session)
    assert session.supervisor.jobs == {}
    if done_before_opening:
        finish(job.folder)
    scene = open_file(session, tmp_path / "elsewhere" / "film.blend")
    if not done_before_opening:
        assert latest(session, scene).is_active
        finish(job.folder)
        tick(session)
    assert taken(scene) == [os.path.realpath(job.folder.clip_mp4)]


def test_saving_before_the_jobs_were_looked_at_forgets_no_placed_clip(film, session, ask, finish, tmp_path):
    finish(ask().folder)
    tick(session)
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "film.blend"))
    scene = bpy.context.scene
    bpy.context.view_layer.objects.active = next(o for o in scene.objects if o.type == "MESH")
    bpy.ops.object.mode_set(mode="EDIT")
    tick(session)
    bpy.ops.wm.save_mainfile()
    bpy.ops.object.mode_set(mode="OBJECT")
    tick(session)
    assert len(taken(scene)) == 1


def test_a_job_after_save_as_belongs_to_the_new_file_alone(film, session, ask, finish, tmp_path):
    first = ask()
    finish(first.folder)
    tick(session)
    bpy.ops.wm.save_mainfile()
    save_as(tmp_path / "film_002.blend")
    second = ask()
    finish(second.folder)
    tick(session)
    assert len(taken(film)) == 2
    scene = open_file(session, tmp_path / "film.blend")
    assert taken(scene) == [os.path.realpath(first.folder.clip_mp4)]
    assert latest(session, scene).name == first.name


def test_jobs_of_one_name_in_two_folders_are_two_jobs(film, session, ask, finish, tmp_path):
    first = ask()
    finish(first.folder)
    tick(session)
    save_as(tmp_path / "elsewhere" / "film.blend")
    second = ask()
    assert second.name == first.name and second.folder.path != first.folder.path
    finish(second.folder)
    tick(session)
    assert second.trouble == "" and len(set(taken(film))) == 2


def test_a_project_that_was_moved_knows_its_jobs(film, session, ask, finish, tmp_path):
    placed, running = ask(), ask()
    finish(placed.folder)
    tick(session)
    bpy.ops.wm.save_mainfile()
    project = tmp_path / "project"
    project.mkdir()
    for name in ("film.blend", "sanawm"):
        (tmp_path / name).rename(project / name)
    scene = open_file(session, project / "film.blend")
    assert latest(session, scene).name == running.name and latest(session, scene).is_active
    finish(latest(session, scene).folder)
    tick(session)
    names = [placed.name, running.name]
    assert sorted(strip.name for strip in clip_strips(scene)) == names
    assert taken(scene)[1] == os.path.realpath(project / "sanawm" / running.name / "clip.mp4")


def test_a_renamed_scene_keeps_its_job(film, session, ask, finish, tmp_path):
    job = ask()
    film.name = "Renamed"
    bpy.context.window.scene = film
    assert session.active_job(film) is job
    bpy.ops.wm.save_mainfile()
    finish(job.folder)
    scene = open_file(session, tmp_path / "film.blend")
    assert scene.name == "Renamed" and len(taken(scene)) == 1 and session.supervisor.strays() == []


def test_an_undo_does_not_lose_the_job(film, session, ask, finish, tmp_path):
    bpy.ops.ed.undo_push(message="Before")
    film.name = "Renamed"
    bpy.ops.ed.undo_push(message="Rename")
    job = ask()
    bpy.ops.ed.undo()
    scene = bpy.context.scene
    assert session.active_job(scene).name == job.name
    save_as(tmp_path / "elsewhere" / "film.blend")
    finish(job.folder)
    scene = open_file(session, tmp_path / "elsewhere" / "film.blend")
    assert len(taken(scene)) == 1


def test_a_copy_of_a_scene_does_not_get_the_clip(film, session, ask, finish, tmp_path):
    job = ask()
    bpy.ops.wm.save_mainfile()
    copy = film.copy()
    tick(session)
    assert latest(session, copy) is None
    bpy.ops.wm.save_mainfile()
    for _ in range(2):
        name = open_file(session, tmp_path / "film.blend").name
        if not job.folder.clip_mp4.exists():
            finish(job.folder)
            tick(session)
        assert {scene.name: len(taken(scene)) for scene in bpy.data.scenes if taken(scene)} == {name: 1}
        bpy.ops.wm.save_mainfile()


def test_the_clip_of_a_deleted_scene_is_announced_in_every_scene(film, session, ask, finish, tmp_path):
    job, name = ask(), film.name
    other = bpy.data.scenes.new("Other")
    bpy.context.window.scene = other
    tick(session)
    assert session.supervisor.strays() == []
    bpy.data.scenes.remove(film)
    assert f"{job.name} is being made for the scene {name}, which is no longer in this file" in panel()
    bpy.ops.wm.save_mainfile()
    finish(job.folder)
    tick(session)
    said = panel().replace(" ", "")
    assert f"The scene {name} is no longer in this file".replace(" ", "") in said
    assert str(job.folder.clip_mp4).replace(" ", "") in said
    open_file(session, tmp_path / "film.blend")
    assert "no longer" not in panel()
