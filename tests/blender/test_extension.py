# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed extension: what it registers, what its panels draw, what it leaves behind."""

import json
import os
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import bpy
import pytest

from tests.recording_layout import RecordingLayout

PANELS = ("SANAWM_PT_shot", "SANAWM_PT_clip", "SANAWM_PT_more")


def drawn(*names):
    layout = RecordingLayout()
    for name in names or PANELS:
        getattr(bpy.types, name).draw(SimpleNamespace(layout=layout), bpy.context)
    return " ".join(layout.shown)


def drawn_preferences(extension):
    layout = RecordingLayout()
    preferences = bpy.context.preferences.addons[extension].preferences
    type(preferences).draw(_with_layout(preferences, layout), bpy.context)
    return " ".join(layout.shown)


class _with_layout:
    """The preferences with our layout in place of Blender's, which exists only while a window draws."""

    def __init__(self, preferences, layout):
        self._preferences, self.layout = preferences, layout

    def __getattr__(self, name):
        return getattr(self._preferences, name)


def registered():
    ours = {name for name in dir(bpy.types) if name.startswith("SANAWM")}
    ours |= {f"handler {f.__name__}" for name in ("load_post", "save_pre") for f in _ours(name)}
    ours |= {name for name in dir(bpy.ops.sanawm) if hasattr(bpy.types, f"SANAWM_OT_{name}")}
    return ours | {name for name in ("sana_wm",) if hasattr(bpy.types.Scene, name)}


def _ours(handler_list):
    return [f for f in getattr(bpy.app.handlers, handler_list) if "sana_wm" in f.__module__]


def test_enabling_and_disabling_leaves_nothing_behind(extension):
    enabled = registered()
    assert {"SANAWM_OT_generate", "SANAWM_PT_clip", "handler _on_load", "sana_wm"} <= enabled
    for _ in range(3):
        bpy.ops.preferences.addon_disable(module=extension)
        assert registered() == set()
        bpy.ops.preferences.addon_enable(module=extension)
        assert registered() == enabled


def test_the_timer_survives_another_file(extension, addon):
    session = addon("session")
    assert bpy.app.timers.is_registered(session.tick)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert bpy.app.timers.is_registered(session.tick)


def test_an_unsaved_file_without_camera_says_what_is_missing(empty_file, extension):
    shown = drawn()
    assert "has no camera" in shown
    assert "Save the file first" in shown
    assert "Generate" in shown
    assert "not saved yet" in drawn_preferences(extension)


def test_a_backend_that_is_not_there_can_be_set_up_from_the_panel(film, addon, extension, tmp_path):
    addon("paths").preferences().backend_folder = str(tmp_path / "nowhere")
    assert "The backend is not set up yet" in drawn("SANAWM_PT_clip")
    assert "Set Up Backend" in drawn("SANAWM_PT_clip")
    assert "The backend is not set up yet" in drawn_preferences(extension)


def test_a_backend_that_is_there_can_be_repaired(film, extension):
    assert "The backend is ready" in drawn_preferences(extension)
    assert "Repair Backend" in drawn_preferences(extension)


def test_the_panel_says_how_long_the_clip_is(film):
    film.sana_wm.frame_start, film.sana_wm.frame_end = 1, 100
    film.render.fps = 24
    assert "100 frames at 24 fps (4.17 s) give a clip of 4.06 s" in drawn("SANAWM_PT_shot")
    film.sana_wm.frame_end = 0
    assert "before it starts" in drawn("SANAWM_PT_shot")


@pytest.mark.parametrize(
    ("preset", "fps", "frames", "sentence"),
    [
        (
            "embedded",
            24,
            130,
            "a clip of 5.06 s: this preset films in steps of 0.5 s, the last 0.35 s stay out",
        ),
        ("embedded_draft", 24, 130, "4.56 s: this preset films in steps of 1.5 s, the last 0.85 s stay out"),
        (
            "embedded_teacher",
            30,
            100,
            "3.06 s: this preset films in steps of 1.5 s, the last 0.27 s stay out",
        ),
        ("embedded_draft", 25, 38, "38 frames at 25 fps (1.52 s) give a clip of 1.52 s"),
        ("embedded", 25, 1500, "1500 frames at 25 fps (60.00 s) give a clip of 60.00 s"),
        ("embedded_draft", 24, 1440, "1440 frames at 24 fps (60.00 s) give a clip of 60.00 s"),
        (
            "embedded",
            24,
            11,
            "1 frame at 16 fps, but the preset Embedded Final 640×352 needs at least 9 (0.5 s)",
        ),
        (
            "embedded_draft",
            24,
            35,
            "Embedded Draft 640×352 needs at least 25 (1.5 s); make the range longer.",
        ),
        ("embedded_draft", 24, 1500, "The range gives 985 frames, but a clip has at most 961 (60 s)"),
    ],
)
def test_the_panel_says_which_part_of_the_range_the_clip_covers(film, preset, fps, frames, sentence):
    film.sana_wm.preset = preset
    film.render.fps = fps
    film.sana_wm.frame_start, film.sana_wm.frame_end = 11, 10 + frames
    shown = drawn("SANAWM_PT_shot")
    assert sentence in shown
    assert ("stay out" in shown) is ("stay out" in sentence)


@pytest.mark.parametrize("preset", ["sana_wm_final", "sana_wm_teacher", "sana_wm_draft"])
def test_a_preset_without_weights_is_refused_as_soon_as_it_is_chosen(film, addon, preset, tmp_path):
    film.sana_wm.preset = preset
    name = addon("properties").presets()[preset].name
    sentence = f"{name} needs Stage 1"
    assert drawn("SANAWM_PT_clip").count(sentence) == 1
    assert "download the weights in Blender's preferences" in drawn("SANAWM_PT_clip")
    assert "Weights in the Preferences" in drawn("SANAWM_PT_clip")
    assert not bpy.ops.sanawm.generate.poll()
    film.sana_wm.frame_start, film.sana_wm.frame_end = 1, 96
    assert bpy.ops.sanawm.export_job.poll(), "another machine may have the weights"
    with pytest.raises(RuntimeError, match=sentence):
        bpy.ops.sanawm.generate()
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bpy.context.scene.sana_wm.preset = preset
    assert sentence not in drawn("SANAWM_PT_clip"), "in a file that is not saved yet that comes first"
    assert not (tmp_path / "sanawm").exists()


def test_the_panel_says_that_the_embedded_model_does_not_read_the_prompt(film):
    assert "does not read the prompt" in drawn("SANAWM_PT_clip")


def test_a_long_prompt_comes_from_a_text_block(film):
    film.sana_wm.prompt_text = bpy.data.texts.new("Long Prompt")
    film.sana_wm.prompt_text.write("A street at dawn.\nFog.")
    film.sana_wm.prompt = "not this"
    assert film.sana_wm.prompt_in_full() == "A street at dawn.\nFog."
    assert "Prompt Text" in drawn("SANAWM_PT_shot")


def test_an_image_as_first_frame_is_asked_for(film):
    film.sana_wm.first_frame_source = "IMAGE"
    assert "Choose the image of the first frame" in drawn("SANAWM_PT_clip")


def asked_again(shot):
    """The shot without what differs each time that it is asked for."""
    return replace(shot, source=replace(shot.source, request_id=""))


def test_export_job_writes_what_generate_writes_and_queues_nothing(film, addon, protocol, tmp_path):
    film.camera = bpy.data.objects["Shot Camera"]
    assert bpy.ops.sanawm.export_job(directory=str(tmp_path / "to send")) == {"FINISHED"}
    (exported,) = (tmp_path / "to send").iterdir()
    exported = protocol.JobFolder(exported)
    addon("paths").preferences().backend_folder = str(tmp_path / "nowhere")
    shot, first_frame_png = addon("shots").export(bpy.context, bpy.context.scene.sana_wm)
    queued = addon("session").supervisor.submit(shot, first_frame_png).folder

    assert exported.state() is None and queued.state().state == "queued"
    files = {job: {path.name for path in job.path.iterdir()} for job in (queued, exported)}
    assert files[queued] - files[exported] == {"state.json"}
    assert asked_again(exported.shot()) == asked_again(queued.shot())
    assert exported.shot().source.request_id != queued.shot().source.request_id
    assert exported.shot().preset.model == "embedded" and len(exported.shot().camera) == 9
    assert exported.shot().camera.image_size == (320, 176)
    assert len(exported.shot().blockout.faces) > 1000
    assert exported.first_frame_png.read_bytes() == queued.first_frame_png.read_bytes()
    assert [job.name for job in addon("session").supervisor.jobs.values()] == [queued.name]
    record = json.loads(exported.shot_json.read_text())
    assert {name for name in record if str(tmp_path) in str(record[name])} == {"source"}


def test_export_job_without_a_folder_is_refused(film):
    with pytest.raises(RuntimeError, match="Choose a folder"):
        bpy.ops.sanawm.export_job()


def test_an_unsaved_file_exports_too(empty_file, tmp_path):
    bpy.ops.sanawm.add_demo_scene()
    bpy.context.scene.render.resolution_percentage, bpy.context.scene.display.render_aa = 10, "OFF"
    assert bpy.ops.sanawm.export_job(directory=str(tmp_path)) == {"FINISHED"}
    assert not bpy.ops.sanawm.generate.poll()


def test_findings_are_shown_until_the_shot_changes(film):
    film.camera.data.animation_data_clear()
    film.camera.data.lens = 200
    assert bpy.ops.sanawm.check_shot() == {"FINISHED"}
    assert "change the focal length" in drawn("SANAWM_PT_clip")
    film.sana_wm.frame_end += 8
    assert "change the focal length" not in drawn("SANAWM_PT_clip")


@pytest.fixture
def waiting(film, addon, tmp_path):
    """A job of the open file that no worker can take, because the backend is not there."""
    addon("paths").preferences().backend_folder = str(tmp_path / "nowhere")
    film.sana_wm.frame_end = 2 * film.render.fps
    shot, first_frame_png = addon("shots").export(bpy.context, bpy.context.scene.sana_wm)
    addon("session").supervisor.submit(shot, first_frame_png)
    return addon("session").supervisor.latest(film.session_uid)


@pytest.fixture
def worker_lock(waiting):
    """What the job's worker would hold, held."""
    lock = waiting.folder.lock
    lock.acquire("the test")
    yield lock
    lock.release()


@pytest.fixture
def queued(waiting, worker_lock):
    """The job as if a worker had its eye on it; the test plays the worker."""
    return waiting


def test_a_job_is_shown_from_the_queue_to_the_end(queued, film, addon, protocol):
    def tick():
        addon("session").tick()
        return drawn("SANAWM_PT_clip")

    def go(state):
        queued.folder.state_file.move(protocol.JobState(state), f"It is {state}.")

    assert "Waiting for a worker" in tick() and "Cancel" in tick()
    assert "The backend does not start: The backend is not set up yet; press Set Up Backend." in tick()
    go("loading")
    assert "It is loading" in tick()
    go("running")
    queued.folder.events.append(
        "progress", stage="denoise", step=3, steps=12, seconds_left=140.0, memory_mb=100
    )
    queued.folder.events.append("warning", message="The figure deforms.")
    shown = tick()
    assert "Denoising 3/12, about 2 min left" in shown and "The figure deforms." in shown
    assert "Generate" not in shown
    bpy.ops.sanawm.cancel()
    assert "Cancelling" in tick()
    go("cancelled")
    assert f"{queued.name} was cancelled" in tick() and "Generate" in tick()


def test_the_clip_so_far_is_shown_from_its_first_chunk_on_and_survives_the_worker(
    queued, worker_lock, addon, protocol
):
    def tick():
        addon("session").tick()
        return drawn("SANAWM_PT_clip")

    def go(state, reason):
        queued.folder.state_file.move(protocol.JobState(state), reason)
        queued.folder.events.append("state", state=state, reason=reason)

    def report(step, seconds_left):
        left = {"seconds_left": seconds_left, "memory_mb": 100}
        queued.folder.events.append("progress", stage="render", step=step, steps=33, **left)

    go("loading", "Loading the model.")
    go("running", "Making the clip.")
    report(0, None)
    assert "Making frames" in tick() and "made" not in tick()
    assert not bpy.ops.sanawm.watch_clip.poll()
    queued.folder.events.append("frames", count=25)
    report(25, 30.0)
    assert "Making frames, about 30 s left Cancel 1.5 of 2.0 s made Live Watch" in tick()
    assert bpy.ops.sanawm.watch_clip.poll()

    worker_lock.release()
    assert "The worker stopped; another one goes on Cancel" in tick() and "1.5 of 2.0 s made" in tick()
    worker_lock.acquire("the next worker")
    go("queued", "The worker studio:12 died; the job goes on.")
    shown = tick()
    assert "The worker studio:12 died; the job goes on Cancel" in shown and "1.5 of 2.0 s made" in shown
    assert "left" not in shown
    go("loading", "Loading the model.")
    go("running", "Making the clip.")
    assert "Making the clip Cancel" in tick() and "1.5 of 2.0 s made" in tick()
    assert queued.fraction(time.time()) >= 25 / 33
    report(25, None)
    queued.folder.events.append("frames", count=33)
    report(33, 1.0)
    assert "Making frames, a few seconds left Cancel" in tick() and "2.0 of 2.0 s made" in tick()
    go("failed", "The disk is full.")
    assert "made" not in tick() and not bpy.ops.sanawm.watch_clip.poll()


@pytest.mark.skipif(sys.platform != "linux", reason="plays with xdg-open")
def test_watching_opens_the_growing_clip_in_the_systems_player(queued, addon, tmp_path, monkeypatch):
    player = tmp_path / "bin" / "xdg-open"
    player.parent.mkdir()
    player.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/played\n')
    player.chmod(0o755)
    monkeypatch.setenv("PATH", str(player.parent), prepend=os.pathsep)
    queued.folder.events.append("frames", count=25)
    addon("session").tick()
    with pytest.raises(RuntimeError, match="There is no"):
        bpy.ops.sanawm.watch_clip()
    queued.folder.preview.mkdir()
    (queued.folder.preview / "clip.mp4").write_bytes(b"a clip")
    assert bpy.ops.sanawm.watch_clip() == {"FINISHED"}
    assert (tmp_path / "played").read_text() == str(queued.folder.preview / "clip.mp4")


def test_a_failed_job_says_why(queued, addon, protocol):
    queued.folder.state_file.move(protocol.JobState.FAILED, "The disk is full.")
    addon("session").tick()
    assert f"{queued.name} failed: The disk is full." in drawn("SANAWM_PT_clip")


def test_a_clip_that_cannot_be_placed_says_why(queued, addon, protocol):
    for state in ("loading", "running", "done"):
        queued.folder.state_file.move(protocol.JobState(state), f"It is {state}.")
    addon("session").tick()
    assert "has no clip" in drawn("SANAWM_PT_clip")


@pytest.fixture
def set_up(film, addon, extension, tmp_path, monkeypatch):
    """A backend of an earlier set-up in a folder of its own, and a package index that has nothing."""
    folder = tmp_path / "backend"
    python = folder / "env-1" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    pointer = {"schema": 1, "python": str(python), "device": "cpu", "versions": {"torch": "1.2.3"}}
    (folder / "current.json").write_text(json.dumps({**pointer, "requirements": [], "token": "t"}))
    addon("paths").preferences().backend_folder = str(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    bpy.context.preferences.system.use_online_access = True
    yield addon("session")
    bpy.context.preferences.system.use_online_access = False
    addon("session").setup = None


def wait_for_set_up(session):
    deadline = time.monotonic() + 120
    while session.is_setting_up():
        assert time.monotonic() < deadline
        session.tick()
        time.sleep(0.05)


@pytest.mark.skipif(os.name == "nt", reason="links an interpreter")
def test_a_failed_set_up_says_what_failed_and_leaves_the_old_backend_usable(set_up, extension):
    assert bpy.ops.sanawm.set_up_backend() == {"FINISHED"}
    assert not bpy.ops.sanawm.set_up_backend.poll()
    assert "Cancel" in drawn_preferences(extension)
    wait_for_set_up(set_up)
    shown = drawn_preferences(extension)
    assert set_up.setup.outcome == "failed"
    assert "The package index has no pip" in shown and "Open Log" in shown
    assert "The backend is ready: torch 1.2.3 on the CPU" in shown
    assert set_up.setup.log.read_text()
    assert bpy.ops.sanawm.generate.poll()


@pytest.mark.skipif(os.name == "nt", reason="links an interpreter")
def test_a_cancelled_set_up_leaves_the_old_backend_usable(set_up, extension):
    bpy.ops.sanawm.set_up_backend()
    while set_up.is_setting_up() and set_up.setup.fraction == 0:
        set_up.tick()
        time.sleep(0.02)
    assert bpy.ops.sanawm.cancel_set_up() == {"FINISHED"}
    wait_for_set_up(set_up)
    assert set_up.setup.outcome == "cancelled"
    shown = drawn_preferences(extension)
    assert "cancelled" in shown and "The backend is ready" in shown


def test_setting_up_waits_for_online_access(film, addon, tmp_path):
    addon("paths").preferences().backend_folder = str(tmp_path / "nowhere")
    bpy.context.preferences.system.use_online_access = False
    assert not bpy.ops.sanawm.set_up_backend.poll()
    with pytest.raises(RuntimeError, match="allow online access"):
        bpy.ops.sanawm.set_up_backend()
