# SPDX-License-Identifier: GPL-3.0-or-later
"""Contact sheet and burn-in, read off the files they write; the artist's file stays as it was."""

import bpy
import numpy as np
import pytest

from tests.numbered_clip import FPS, SHORT


@pytest.fixture
def scene(empty_file):
    empty_file.render.resolution_x, empty_file.render.resolution_y = 192, 128
    empty_file.render.resolution_percentage = 100
    empty_file.render.fps = 24
    return empty_file


def contents():
    """How many of everything there are; Blender keeps one Render Result once something was rendered."""
    counts = {name: len(getattr(bpy.data, name)) for name in ("scenes", "worlds", "texts", "objects")}
    return counts | {"images": sum(image.type != "RENDER_RESULT" for image in bpy.data.images)}


def pixels(path):
    image = bpy.data.images.load(str(path))
    values = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], -1)[::-1, :, :3] * 255
    bpy.data.images.remove(image)
    return values


def number(gray):
    """The digit of a field of gray, see numbered_clip."""
    return round((gray - 15) / 25)


def test_a_contact_sheet_shows_first_middle_and_last_frame_of_every_take(
    scene, addon, finished_job, tmp_path
):
    jobs = [finished_job(scene, SHORT, seed=seed) for seed in (7, 8)]
    review, before, shown = addon("compare.review"), contents(), bpy.context.window.scene
    review.contact_sheet(jobs, tmp_path / "sheet.png")
    sheet = pixels(tmp_path / "sheet.png")
    cell, gap, caption = review.CELL_WIDTH, review.GAP, review.CAPTION_HEIGHT
    height = cell * 64 // 96
    for row in range(2):
        middle = gap + row * (height + caption + gap) + height // 2
        for column, frame in enumerate((0, SHORT // 2, SHORT - 1)):
            left = gap + column * (cell + gap)
            tens, units = (sheet[middle, left + round(cell * part)].mean() for part in (0.5, 0.83))
            assert 10 * number(tens) + number(units) == frame, f"row {row}, column {column}"
        text = sheet[middle + height // 2 + 2 : middle + height // 2 + caption, :cell]
        assert text.max() > 180, "there is a caption"
    assert contents() == before and bpy.context.window.scene == shown


def test_without_clips_there_is_no_sheet(addon, scene, protocol, tmp_path):
    with pytest.raises(protocol.ProtocolError, match="no clip to put on a contact sheet"):
        addon("compare.review").contact_sheet([], tmp_path / "sheet.png")


def test_a_burn_in_lasts_as_long_as_the_take_and_carries_words(scene, addon, finished_job, tmp_path):
    job = finished_job(scene, SHORT, frame_start=11)
    strip = addon("sequencer").place_clip(scene, job)
    start, end = addon("compat").strip_extent(strip)
    before, filepath = contents(), scene.render.filepath
    target = tmp_path / "review.mp4"
    addon("compare.review").burn_in(scene, job, target)
    movie = bpy.data.images.load(str(target))
    assert movie.frame_duration == end - start
    bpy.data.images.remove(movie)
    assert contents() == before and scene.render.filepath == filepath and not scene.render.use_stamp
    top = frame_of(target, 0)[:24]
    assert np.ptp(top[:, :96]) > 60, "the shot's name stands at the top"


def frame_of(movie, frame):
    """(H, W, 3) of a movie's frame, by the sequencer of a scene that is thrown away."""
    before, scene = bpy.context.window.scene, bpy.data.scenes.new("Look")
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strips.new_movie(name="m", filepath=str(movie), channel=1, frame_start=1)
    scene.render.resolution_x, scene.render.resolution_y = 192, 128
    scene.view_settings.view_transform = "Standard"
    if hasattr(scene.render.image_settings, "media_type"):
        scene.render.image_settings.media_type = "IMAGE"
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(movie.with_suffix(".png"))
    bpy.context.window.scene = scene
    scene.frame_set(1 + frame)
    bpy.ops.render.render(write_still=True)
    bpy.context.window.scene = before
    bpy.data.scenes.remove(scene)
    return pixels(movie.with_suffix(".png"))


def test_a_lens_that_changes_is_written_where_it_changes(addon):
    runs = list(addon("compare.review")._runs([35.0, 35.0, 40.0, 40.0, 50.0], 1, 13, 12 / 4))
    assert runs == [(1, 7, 35.0), (7, 13, 40.0)], "the last sample lies behind the last frame"
    assert FPS == 16
