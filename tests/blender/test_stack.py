# SPDX-License-Identifier: GPL-3.0-or-later
"""Clip and blockout over each other in the sequencer: a render of the blockout, used as the clip, leaves nothing."""

import subprocess

import bpy
import numpy as np
import pytest

from tests.numbered_clip import FPS, ROOT

SIZE = (192, 108)
CLIP = (192, 96)  # cut from the middle, as 1280x704 is
SAMPLES = 17

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from backend.video import ClipWriter
target, folder = Path(sys.argv[1]), Path(sys.argv[2])
frames = np.stack([np.asarray(Image.open(p).convert("RGB")) for p in sorted(folder.glob("*.png"))])
frames = np.ascontiguousarray(frames[:, 6:102])
with ClipWriter(target.parent / "preview", (192, 96), 16, {}) as writer:
    writer.write(frames)
    writer.finish(target)
"""


@pytest.fixture
def film_scene(empty_file):
    """A room with a slow dolly; Workbench renders it."""
    scene = empty_file
    scene.render.resolution_x, scene.render.resolution_y = SIZE
    scene.render.engine, scene.display.render_aa = "BLENDER_WORKBENCH", "OFF"
    scene.view_settings.view_transform = "Standard"
    for index, place in enumerate([(0, 6, 0), (-2, 4, 0.5), (2, 5, -0.5)]):
        bpy.ops.mesh.primitive_cube_add(size=2, location=place)
        bpy.context.object.color = ((0.8, 0.2, 0.1, 1), (0.1, 0.7, 0.3, 1), (0.2, 0.3, 0.9, 1))[index]
    scene.display.shading.color_type = "OBJECT"
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(camera)
    scene.camera, camera.rotation_euler = camera, (np.pi / 2, 0, 0)
    return scene


def key_camera(scene, frames):
    camera = scene.camera
    camera.animation_data_clear()
    for frame, y in ((1, 0.0), (1 + frames, 0.8)):
        camera.location = (0, y, 0)
        camera.keyframe_insert("location", frame=frame)


@pytest.fixture
def blockout_job(film_scene, addon, protocol, backend_python, tmp_path):
    """Gives a job whose clip is the blockout's own render, `late` samples late."""

    def make(fps, fps_base=1.0, late=0):
        scene = film_scene
        scene.render.fps, scene.render.fps_base = fps, fps_base
        rate = fps / fps_base
        key_camera(scene, rate * (SAMPLES - 1) / FPS)
        folder = tmp_path / "frames"
        folder.mkdir()
        camera = addon("camera").export_camera(scene, bpy.context.view_layer, scene.camera, 1, SAMPLES)
        for sample in range(SAMPLES):
            frame = 1 + max(sample - late, 0) * rate / FPS
            png = addon("first_frame").render_blockout(scene, bpy.context.view_layer, scene.camera, frame)
            (folder / f"{sample:03d}.png").write_bytes(png)
        preset = protocol.Preset("Test", "For the test", "embedded", CLIP)
        end = int(rate * (SAMPLES - 1) / FPS)
        source = protocol.Source("", scene.name, "Camera", 1, end, rate)
        shot = protocol.Shot("010_0010", "Shot", camera, "", "", 7, preset, source)
        first = (folder / "000.png").read_bytes()
        job = protocol.JobFolder.create(tmp_path / "jobs", shot, first)
        command = [str(backend_python), "-c", SCRIPT, str(job.clip_mp4), str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=120)
        protocol.Clip(SAMPLES, CLIP, 0, preset.to_record(), 7, {}, {}).save(job.clip_json)
        return job

    return make


def shown(scene, frame, tmp_path):
    """(H, W, 3) of what the sequencer shows, 0..255, the lowest row first."""
    bpy.context.window.scene = scene
    render = scene.render
    if hasattr(render.image_settings, "media_type"):
        render.image_settings.media_type = "IMAGE"
    render.image_settings.file_format, render.image_settings.color_mode = "PNG", "RGB"
    render.filepath = str(tmp_path / "shown.png")
    scene.frame_set(frame)
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(render.filepath)
    pixels = np.array(image.pixels[:]).reshape(SIZE[1], SIZE[0], -1)[..., :3] * 255
    bpy.data.images.remove(image)
    return pixels


@pytest.mark.parametrize("fps, fps_base", [(16, 1.0), (24, 1.0), (24, 1.001), (25, 1.0), (30, 1.0)])
def test_the_blockout_as_clip_leaves_nothing_at_any_rate(
    film_scene, addon, blockout_job, tmp_path, fps, fps_base
):
    job = blockout_job(fps, fps_base)
    scene = addon("compare.stack").compare(film_scene, job, "DIFFERENCE")
    for frame in (1, round(fps * 0.5), round(fps * 0.9)):
        difference = shown(scene, frame, tmp_path)
        assert difference[6:102].mean() < 4, f"frame {frame} at {fps / fps_base:.3f} fps"
        assert max(difference[:5].max(), difference[103:].max()) < 1.5, "outside of the clip there is nothing"


def test_a_film_at_half_its_resolution_is_compared_in_the_pixels_it_renders(
    film_scene, addon, blockout_job, tmp_path
):
    render = film_scene.render
    render.resolution_x, render.resolution_y, render.resolution_percentage = SIZE[0] * 2, SIZE[1] * 2, 50
    scene = addon("compare.stack").compare(film_scene, blockout_job(24), "DIFFERENCE")
    difference = shown(scene, 12, tmp_path)
    assert difference[6:102].mean() < 4
    assert max(difference[:5].max(), difference[103:].max()) < 1.5, "outside of the clip there is nothing"


def test_a_late_clip_shows_in_the_difference(film_scene, addon, blockout_job, tmp_path):
    scene = addon("compare.stack").compare(film_scene, blockout_job(24, late=6), "DIFFERENCE")
    assert shown(scene, 20, tmp_path)[6:102].mean() > 6


def test_half_of_each_is_the_blockout_where_both_agree(film_scene, addon, blockout_job, tmp_path):
    job = blockout_job(24)
    scene = addon("compare.stack").compare(film_scene, job, "HALF")
    half = shown(scene, 12, tmp_path)
    png = tmp_path / "alone.png"
    bpy.context.window.scene = film_scene
    png.write_bytes(
        addon("first_frame").render_blockout(film_scene, bpy.context.view_layer, film_scene.camera, 12)
    )
    alone = bpy.data.images.load(str(png))
    pixels = np.array(alone.pixels[:]).reshape(SIZE[1], SIZE[0], -1)[..., :3] * 255
    assert np.abs(half - pixels)[8:100].mean() < 4


def test_an_agx_scene_is_compared_as_it_is_seen(film_scene, addon, blockout_job, tmp_path):
    film_scene.view_settings.view_transform = "AgX"
    scene = addon("compare.stack").compare(film_scene, blockout_job(24), "DIFFERENCE")
    assert shown(scene, 1, tmp_path)[6:102].mean() < 6


def test_a_comparison_goes_away_and_leaves_the_film_as_it_was(film_scene, addon, blockout_job):
    stack, job = addon("compare.stack"), blockout_job(24)
    before = {scene.name for scene in bpy.data.scenes}
    first = stack.compare(film_scene, job, "HALF").name
    assert stack.comparison_of(film_scene).name == first
    stack.compare(film_scene, job, "DIFFERENCE")
    assert len(bpy.data.scenes) == len(before) + 1
    assert stack.remove_comparison(film_scene) and not stack.remove_comparison(film_scene)
    assert {scene.name for scene in bpy.data.scenes} == before
    editor = film_scene.sequence_editor
    assert editor is None or not addon("compat").strips(editor)


def test_the_panel_of_the_take_stays_in_sight(film_scene, addon, blockout_job):
    scene = addon("compare.stack").compare(film_scene, blockout_job(24), "DIFFERENCE")
    assert addon("takes").is_take(scene.sequence_editor.active_strip)


def test_without_its_camera_there_is_nothing_to_compare(film_scene, addon, protocol, blockout_job):
    job = blockout_job(24)
    film_scene.camera.name = "Gone"
    with pytest.raises(
        protocol.ProtocolError, match="The camera Camera of 010_0010-v001 is not in this file"
    ):
        addon("compare.stack").compare(film_scene, job, "HALF")
