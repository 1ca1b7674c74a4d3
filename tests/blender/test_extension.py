# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed extension: what it registers, what its panels draw, what it leaves behind."""

from types import SimpleNamespace

import bpy
import pytest

PANELS = ("SANAWM_PT_shot", "SANAWM_PT_clip", "SANAWM_PT_more")


class RecordingLayout:
    """Stands in for UILayout: refuses what Blender would not find, and keeps every text that is shown."""

    def __init__(self, shown=None):
        self.shown = [] if shown is None else shown

    def _part(self, **_options):
        return RecordingLayout(self.shown)

    row = column = box = split = _part

    def prop(self, data, name, **options):
        self.shown.append(options.get("text") or data.bl_rna.properties[name].name)

    textbox = prop

    def operator(self, name, text=None, **_options):
        operator = getattr(bpy.ops, name.partition(".")[0])
        label = getattr(operator, name.partition(".")[2]).get_rna_type().name
        self.shown.append(label if text is None else text)
        return SimpleNamespace()

    def label(self, text="", **_options):
        self.shown.append(text)

    def progress(self, factor=0.0, text="", type="BAR"):
        assert 0 <= factor <= 1
        self.shown.append(text)

    def separator(self, **_options):
        pass


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


def test_findings_are_shown_until_the_shot_changes(film):
    film.camera.data.lens = 200
    assert bpy.ops.sanawm.check_shot() == {"FINISHED"}
    assert "change the focal length" in drawn("SANAWM_PT_clip")
    film.sana_wm.frame_end += 8
    assert "change the focal length" not in drawn("SANAWM_PT_clip")


@pytest.fixture
def queued(film, addon, protocol, tmp_path):
    """A job of the open file that no worker can take, because the backend is not there."""
    addon("paths").preferences().backend_folder = str(tmp_path / "nowhere")
    shot, first_frame_png = addon("shots").export(bpy.context)
    addon("session").supervisor.submit(shot, first_frame_png)
    job = addon("session").supervisor.latest(film.name)
    lock = job.folder.lock
    lock.acquire("the test")
    yield job
    lock.release()


def test_a_job_is_shown_from_the_queue_to_the_end(queued, film, addon, protocol):
    def tick():
        addon("session").tick()
        return drawn("SANAWM_PT_clip")

    def go(state):
        queued.folder.state_file.move(protocol.JobState(state), f"It is {state}.")

    assert "Waiting for a worker" in tick() and "Cancel" in tick()
    assert "The backend does not start: The backend is not set up yet." in tick()
    go("loading")
    assert "It is loading" in tick()
    go("running")
    queued.folder.events.append(
        "progress", stage="denoise", step=3, steps=12, seconds_left=140.0, memory_mb=100
    )
    queued.folder.events.append("warning", message="The figure deforms.")
    shown = tick()
    assert "Denoise 3/12, about 2 min left" in shown and "The figure deforms." in shown
    assert "Generate" not in shown
    bpy.ops.sanawm.cancel()
    assert "Cancelling" in tick()
    go("cancelled")
    assert f"{queued.name} was cancelled" in tick() and "Generate" in tick()


def test_a_failed_job_says_why(queued, addon, protocol):
    queued.folder.state_file.move(protocol.JobState.FAILED, "The disk is full.")
    addon("session").tick()
    assert f"{queued.name} failed: The disk is full." in drawn("SANAWM_PT_clip")


def test_a_clip_that_cannot_be_placed_says_why(queued, addon, protocol):
    for state in ("loading", "running", "done"):
        queued.folder.state_file.move(protocol.JobState(state), f"It is {state}.")
    addon("session").tick()
    assert "has no clip" in drawn("SANAWM_PT_clip")
