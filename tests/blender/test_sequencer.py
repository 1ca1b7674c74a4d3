# SPDX-License-Identifier: GPL-3.0-or-later
"""The strip: which clip frame is seen at which scene frame, read off rendered pixels."""

import math

import bpy
import numpy as np
import pytest

from tests import numbered_clip
from tests.numbered_clip import FPS, LONG, SHORT, SIZE

# In clip frames. Blender shows the nearest one, before 4.4 the one before.
OFF = 0.5 + 1e-3 if bpy.app.version >= (4, 4) else 1.0


@pytest.fixture
def place(addon):
    return addon("sequencer").place_clip


@pytest.fixture
def scene(empty_file):
    empty_file.render.resolution_x, empty_file.render.resolution_y = SIZE
    empty_file.render.resolution_percentage = 100
    return empty_file


def all_strips(scene):
    editor = scene.sequence_editor
    return list(editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all)


def test_a_growing_clip_is_a_strip_of_what_is_there(scene, backend_python, tmp_path):
    numbered_clip.write(backend_python, tmp_path / "clip.mp4", 73, keep_each_state=True)
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    for count in (25, 49, 73):
        growing = tmp_path / f"{count}.mp4"
        strip = strips.new_movie(name="Growing", filepath=str(growing), channel=1, frame_start=1)
        first, after = extent(strip)
        assert after - first == count, f"a growing clip of {count} frames makes a strip of {after - first}"
        last = count - 1
        assert [shown(scene, 1 + frame, tmp_path) for frame in (0, 24, last)] == [0, 24, last]
        strips.remove(strip)


def extent(strip):
    if hasattr(strip, "left_handle"):
        return int(strip.left_handle), int(strip.right_handle)
    return strip.frame_final_start, strip.frame_final_end


def shown(scene, frame, folder):
    """The number of the clip frame that the sequencer shows at a scene frame; None where it is empty."""
    render = scene.render
    if hasattr(render.image_settings, "media_type"):
        render.image_settings.media_type = "IMAGE"
    render.image_settings.file_format, render.image_settings.color_mode = "PNG", "RGB"
    scene.view_settings.view_transform = "Standard"
    render.use_sequencer, render.filepath = True, str(folder / "still.png")
    scene.frame_set(frame)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(render.filepath, check_existing=False)
    pixels = np.array(image.pixels[:]).reshape(SIZE[1], SIZE[0], -1)[..., :3] * 255
    bpy.data.images.remove(image)
    fields = [pixels[16:48, field * 32 + 8 : field * 32 + 24].mean() for field in range(3)]
    if max(fields) < 5:
        return None
    digits = [round((value - 15) / 25) for value in fields]
    for value, digit in zip(fields, digits, strict=True):
        assert abs(value - 15 - 25 * digit) < 6, fields
    return digits[0] * 100 + digits[1] * 10 + digits[2]


RATES = {"24": (24, 1.0), "25": (25, 1.0), "30": (30, 1.0), "16": (16, 1.0), "23.976": (24, 1.001)}


@pytest.mark.parametrize("rate", RATES)
def test_every_scene_frame_shows_the_clip_frame_of_its_time(scene, place, finished_job, tmp_path, rate):
    scene.render.fps, scene.render.fps_base = RATES[rate]
    fps = scene.render.fps / scene.render.fps_base
    start = 11
    strip = place(scene, finished_job(scene, SHORT, start))
    first, after = extent(strip)
    assert first == start and after - first == math.ceil(3 * fps)
    for frame in range(first, after):
        number = shown(scene, frame, tmp_path)
        due = (frame - start) / fps * FPS
        assert abs(number - due) <= OFF, f"scene frame {frame} shows {number}, due is {due:.2f}"
    assert shown(scene, first - 1, tmp_path) is None and shown(scene, after, tmp_path) is None


@pytest.mark.parametrize("rate", RATES)
def test_a_minute_is_a_minute(scene, place, finished_job, tmp_path, rate):
    scene.render.fps, scene.render.fps_base = RATES[rate]
    fps = scene.render.fps / scene.render.fps_base
    first, after = extent(place(scene, finished_job(scene, LONG)))
    assert abs((after - first) / fps - 60) < 1 / fps
    for frame in [*range(first, after, 211), after - 1]:
        due = (frame - 1) / fps * FPS
        assert abs(shown(scene, frame, tmp_path) - due) <= OFF, f"scene frame {frame}"


def test_a_clip_that_lost_its_first_frame_starts_a_sample_later(scene, place, finished_job, tmp_path):
    scene.render.fps, scene.render.fps_base = 24, 1.0
    first, _after = extent(place(scene, finished_job(scene, SHORT, 11, pose_offset=1)))
    assert first == 12  # a sixteenth of a second after frame 11 is frame 12.5
    for frame in (12, 30, 60):
        due = (frame - 11) / 24 * FPS - 1
        assert abs(shown(scene, frame, tmp_path) - due) <= OFF + 0.5  # the strip starts on a whole frame


def test_the_scene_keeps_its_rate_its_colours_and_its_selection(scene, place, finished_job):
    scene.render.fps, scene.render.fps_base, scene.frame_start, scene.frame_end = 25, 1.0, 5, 80
    scene.view_settings.view_transform, scene.view_settings.exposure = "AgX", 0.5
    scene.frame_set(17)
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    end = {"length": 50} if bpy.app.version >= (5, 0) else {"frame_end": 51}
    mine = strips.new_effect(name="Mine", type="COLOR", channel=3, frame_start=1, **end)
    mine.select, editor.active_strip = True, mine

    def state():
        view = scene.view_settings
        return (
            *(scene.render.fps, scene.render.fps_base, scene.frame_start, scene.frame_end),
            *(scene.frame_current, scene.render.resolution_x, scene.render.resolution_y),
            *(view.view_transform, view.look, view.exposure, view.gamma),
            *(scene.display_settings.display_device, scene.sequencer_colorspace_settings.name),
            *(editor.active_strip.name, mine.select, mine.channel, extent(mine)),
        )

    before = state()
    for _ in range(2):
        place(scene, finished_job(scene, SHORT))
        assert state() == before
        assert [strip.name for strip in all_strips(scene) if strip.select] == ["Mine"]


def test_an_empty_sequencer_has_nothing_selected_afterwards(scene, place, finished_job):
    place(scene, finished_job(scene, SHORT))
    assert [strip.name for strip in all_strips(scene) if strip.select] == []
    assert scene.sequence_editor.active_strip is None


def test_takes_stack_up_on_free_channels(scene, place, finished_job):
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    end = {"length": 30} if bpy.app.version >= (5, 0) else {"frame_end": 31}
    strips.new_effect(name="Below", type="COLOR", channel=3, frame_start=1, **end)
    later = {"length": 30} if bpy.app.version >= (5, 0) else {"frame_end": 530}
    strips.new_effect(name="Elsewhere", type="COLOR", channel=9, frame_start=500, **later)
    first, second = (place(scene, finished_job(scene, SHORT)) for _ in range(2))
    assert (first.channel, second.channel) == (4, 6)
    channels = sorted((s.channel, s.type) for s in all_strips(scene) if s.name.startswith("010_0010"))
    assert channels == [(4, "MOVIE"), (5, "SPEED"), (6, "MOVIE"), (7, "SPEED")]


def test_the_strip_says_what_it_is(scene, place, finished_job, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "film.blend"))
    strip = place(bpy.context.scene, finished_job(scene, SHORT, seed=4_000_000_000))
    assert strip.name == "010_0010-v001"
    assert strip["sana_wm"].to_dict() == {
        "shot": "010_0010",
        "take": 1,
        "seed": "4000000000",
        "job": "//jobs/010_0010-v001",
        "ai_generated": True,
    }
    assert strip.filepath == "//jobs/010_0010-v001/clip.mp4"
    bpy.ops.wm.save_mainfile()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "film.blend"))
    kept = next(strip for strip in all_strips(bpy.context.scene) if strip.type == "MOVIE")
    assert kept["sana_wm"]["take"] == 1 and kept["sana_wm"]["shot"] == "010_0010"


def test_a_clip_that_is_no_film_leaves_no_strip(scene, place, finished_job, protocol):
    job = finished_job(scene, SHORT)
    job.clip_mp4.write_bytes(b"not a film")
    with pytest.raises(protocol.ProtocolError, match="cannot read .*generate the shot again"):
        place(scene, job)
    job.clip_mp4.unlink()
    with pytest.raises(protocol.ProtocolError, match="has no clip"):
        place(scene, job)
    assert all_strips(scene) == []
