# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender as annotator: what it writes agrees with the scene, pixel by pixel."""

import importlib
import json
import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from tools import package

ROOT = Path(__file__).resolve().parents[2]

SIZE, FRAMES = (96, 64), 9
CUBE = (0.4, 5.0, 1.2)  # of side 2
UNIT_M = 0.5


@pytest.fixture
def stage(empty_file, tmp_path):
    """A cube before two cameras that move, in a file of half metres; one of them zooms, one cannot be filmed with."""
    scene = empty_file
    bpy.ops.mesh.primitive_cube_add(location=CUBE)
    for name, x in (("Left Cam", -1.5), ("Right", 1.0)):
        data = bpy.data.cameras.new(name)
        camera = bpy.data.objects.new(name, data)
        scene.collection.objects.link(camera)
        camera.rotation_euler = (math.radians(88), 0, math.radians(-8 if x < 0 else 6))
        data.lens, data.shift_x = 26, 0.05
        for frame, place in ((1, (x, 0, 1.0)), (13, (x + 0.6, 0.8, 1.4))):
            camera.location = place
            camera.keyframe_insert("location", frame=frame)
        data.keyframe_insert("lens", frame=1)
        data.lens = 34
        data.keyframe_insert("lens", frame=13)
    sun = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    sun.rotation_euler = (math.radians(50), 0, math.radians(20))
    scene.collection.objects.link(sun)
    flat = bpy.data.objects.new("Flat", bpy.data.cameras.new("Flat"))
    flat.data.type = "ORTHO"
    scene.collection.objects.link(flat)
    scene.unit_settings.scale_length = UNIT_M
    scene.render.fps, scene.frame_start, scene.frame_end = 24, 1, 14
    scene.display.render_aa = "OFF"
    scene.sana_wm.prompt = "a cube in the void"
    scene.render.film_transparent = True
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "stage.blend"))
    return scene


def settings_of(scene):
    owners = (scene.render, scene.render.image_settings, scene.view_layers[0], scene.display)
    return [
        (prop.identifier, repr(getattr(owner, prop.identifier)))
        for owner in owners
        for prop in owner.bl_rna.properties
        if prop.type in {"BOOLEAN", "INT", "FLOAT", "STRING", "ENUM"}
    ]


def distance_to_cube_m(points):
    """(N, 3) metres -> (N,) distance to the surface of the cube."""
    beyond = np.abs(points - np.multiply(CUBE, UNIT_M)) - UNIT_M
    return np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.abs(np.minimum(beyond.max(-1), 0))


@pytest.mark.parametrize("engine", ["workbench", "cycles"])
def test_every_pixel_unprojects_onto_the_cube(stage, addon, protocol, tmp_path, engine, capfd):
    if engine == "cycles":
        stage.cycles.use_denoising = False
    before = settings_of(stage)
    argv = [
        "annotate",
        "--out",
        str(tmp_path / "out"),
        "--size",
        "96x64",
        "--frames",
        "9",
        "--engine",
        engine,
    ]
    assert addon("command_line").main([*argv, "--samples", "1"]) == 1  # for the camera that is left out
    assert "The camera Flat is orthographic" in capfd.readouterr().err
    assert settings_of(stage) == before

    annotation = importlib.import_module(f"{protocol.__name__}.annotation")
    summary = annotation.Summary.load(tmp_path / "out")
    assert summary.clips == ["Left_Cam-f1", "Right-f1"] and list(summary.left_out) == ["Flat"]
    for name in summary.clips:
        clip = annotation.AnnotatedClip(tmp_path / "out" / name)
        assert clip.record().caption == "a cube in the void"
        assert clip.record().origin["engine"] == engine
        camera = protocol.CameraPath.load(clip.camera_npz)
        assert (len(camera), camera.image_size) == (FRAMES, SIZE)
        assert camera.intrinsics[-1, 0] > camera.intrinsics[0, 0] * 1.1, "the lens zooms"
        depth = clip.load_depth(FRAMES)
        for sample in (0, 4, 8):
            seen = np.isfinite(depth[sample])
            assert 0.05 < seen.mean() < 0.95
            v, u = np.nonzero(seen)
            fx, fy, cx, cy = camera.intrinsics[sample]
            z = depth[sample][seen].astype(np.float64)
            rays = np.stack([(u + 0.5 - cx) / fx, (v + 0.5 - cy) / fy, np.ones(len(u))], axis=-1)
            points = rays * z[:, None] @ camera.c2w[sample, :3, :3].T + camera.c2w[sample, :3, 3]
            off = distance_to_cube_m(points) / z
            # A pixel on an edge may show what lies half a pixel beside its centre.
            inside = (
                seen & np.roll(seen, 2, 1) & np.roll(seen, -2, 1) & np.roll(seen, 2, 0) & np.roll(seen, -2, 0)
            )
            assert off[inside[seen]].max() < 0.01 and off.max() < 0.03, f"{name} sample {sample}"
            picture = bpy.data.images.load(str(clip.rgb(sample)))
            pixels = np.array(picture.pixels[:]).reshape(SIZE[1], SIZE[0], -1)[::-1, :, :3]
            bpy.data.images.remove(picture)
            assert abs(pixels[inside].mean() - pixels[~seen].mean()) > 0.02, (
                "the picture shows the cube there"
            )


def test_it_goes_on_where_it_was_stopped(stage, addon, protocol, tmp_path, monkeypatch):
    annotate = addon("annotate")
    read, reads = annotate.read_depth, []

    def stopped(path):
        reads.append(path)
        if len(reads) == 4:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(annotate, "read_depth", stopped)
    argv = [
        "annotate",
        "--out",
        str(tmp_path / "out"),
        "--size",
        "96x64",
        "--frames",
        "9",
        "--camera",
        "Right",
    ]
    with pytest.raises(KeyboardInterrupt):
        addon("command_line").main(argv)
    assert not (tmp_path / "out" / "Right-f1" / "clip.json").exists()
    assert addon("command_line").main(argv) == 0
    assert len(reads) == 4 + 6, "the three finished pictures are not rendered again"
    assert addon("command_line").main(argv) == 0
    assert len(reads) == 10, "nor is a finished clip"


def test_shots_of_the_list_are_filmed_over_their_own_ranges(stage, addon, tmp_path, capfd, protocol):
    for code, camera, end in (("010", "Right", 14), ("020", "Left Cam", 4)):
        shot = stage.sana_wm_shots.add()
        shot.code, shot.camera, shot.prompt = code, bpy.data.objects[camera], f"shot {code}"
        shot.range_source, shot.frame_start, shot.frame_end = "CUSTOM", 1, end
    argv = ["annotate", "--out", str(tmp_path / "out"), "--size", "96x64", "--frames", "9"]
    assert addon("command_line").main(argv) == 1
    said = capfd.readouterr()
    assert "020 is left out: It gives 1 frame at 16 fps, and a clip needs 9." in said.err
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["010-f1", "annotations.json"]


def test_from_the_shell_a_file_becomes_a_dataset(stage, backend_python, tmp_path):
    """`python -m backend data blender FILE`, and again, which renders nothing."""
    program = shlex.join([sys.executable, str(ROOT / "tests" / "blender_program.py")])
    (tmp_path / "blender").write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    (tmp_path / "blender").chmod(0o755)
    variables = os.environ | {
        "SANA_WM_ZIP": str(package.build_zip(ROOT, tmp_path / "dist")),
        "SANA_WM_BACKEND": str(ROOT / ".env" / "backend"),
        "BLENDER_USER_RESOURCES": str(tmp_path / "user"),
        "PYTHONPATH": str(ROOT),
    }
    command = [str(backend_python), "-m", "backend", "data", "blender", bpy.data.filepath, "--frames", "9"]
    command += ["--size", "96x64", "--blender", str(tmp_path / "blender"), "--out", str(tmp_path / "set")]
    made = []
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        report = json.loads((tmp_path / "set" / "report.json").read_text())
        assert report["is_sound"] and report["figures"]["clips"] == 2
        assert [(entry["name"], "orthographic" in entry["reason"]) for entry in report["rejected"]] == [
            ("stage-Flat", True)
        ]
        made.append(done.stdout.count("kept"))
    assert made == [2, 0]
    assert (tmp_path / "set" / "sheets" / "000.png").exists()
    assert not list((tmp_path / "set" / "blender").rglob("*.png")), "the pictures have left"
    stage.sana_wm.prompt = "a cube somewhere else"
    bpy.ops.wm.save_mainfile()
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=200)
    assert done.returncode == 2 and "was saved again after clips of it came into this set" in done.stderr


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--camera", "Nobody"], "has no camera Nobody; its cameras: Flat, Left Cam, Right"),
        (["--frames", "10"], "a clip has 8k + 1 frames"),
        (["--size", "wide"], "'wide' is no size"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(stage, addon, tmp_path, capfd, more, sentence):
    assert addon("command_line").main(["annotate", "--out", str(tmp_path / "out"), *more]) == 2
    assert sentence in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
