# SPDX-License-Identifier: GPL-3.0-or-later
"""The shot list without a window: listed, checked, submitted from a file, made and placed."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import bpy
import pytest

from tools import package

ROOT = Path(__file__).resolve().parents[2]

LIST = """code,start,end,prompt
010_0010,1,13,fog
010_0020,thirteen,40,
010_0030,14,26,
"""


@pytest.fixture
def main(addon, film):
    """The command in this Blender, on a saved file with a short shot."""
    addon("session").supervisor.reload()
    return addon("command_line").main


@pytest.fixture
def shot_list(tmp_path):
    path = tmp_path / "shots.csv"
    path.write_text(LIST, "utf-8")
    return path


def test_a_list_with_a_bad_row_queues_the_others_and_says_so(main, shot_list, tmp_path, capfd, protocol):
    assert main(["submit", "--from", str(shot_list), "--jobs", str(tmp_path / "farm")]) == 1
    said = capfd.readouterr()
    assert "Line 3 of shots.csv is left out" in said.err
    jobs = protocol.list_jobs(tmp_path / "farm")
    assert [job.name for job in jobs] == ["010_0010-v001", "010_0030-v001"]
    assert [job.state().state for job in jobs] == ["queued", "queued"]
    assert all(str(job.path) in said.out for job in jobs)
    assert jobs[0].shot().prompt == "fog"


def test_listing_tells_the_state_and_writes_the_list(main, shot_list, tmp_path, capfd):
    main(["submit", "--from", str(shot_list)])
    capfd.readouterr()
    assert main(["list", "--write", str(tmp_path / "out.csv")]) == 0
    said = capfd.readouterr().out
    assert "010_0010" in said and "queued" in said and "2 shots written" in said
    assert "queued" in (tmp_path / "out.csv").read_text("utf-8")


def test_checking_names_the_shot_that_cannot_be_filmed(main, capfd):
    bpy.ops.sanawm.add_shot()
    bpy.ops.sanawm.add_shot()
    bpy.context.scene.sana_wm_shots[1].frame_end = 2
    assert main(["check"]) == 1
    said = capfd.readouterr().out
    assert "010_0020: error: The range gives" in said and "010_0010: error" not in said
    assert main(["check", "--shots", "010_0010"]) == 0


def test_another_scene_is_filmed_by_its_own_camera_and_keeps_out_of_the_window(main, tmp_path, protocol):
    scene, before = bpy.data.scenes.new("Second"), bpy.context.scene
    camera = bpy.data.objects.new("Second", bpy.data.cameras.new("Second"))
    scene.collection.objects.link(camera)
    for frame, x in ((1, 0.0), (13, 0.3)):
        camera.location.x = x
        camera.keyframe_insert("location", frame=frame)
    scene.camera, scene.frame_end = camera, 13
    scene.render.resolution_percentage, scene.display.render_aa = 25, "OFF"
    scene.sana_wm.code = "020_0010"
    assert main(["submit", "--scene", "Second", "--jobs", str(tmp_path / "farm"), "--takes", "2"]) == 0
    jobs = protocol.list_jobs(tmp_path / "farm")
    assert [job.name for job in jobs] == ["020_0010-v001", "020_0010-v002"]
    x = jobs[0].shot().camera.c2w[:, 0, 3]
    assert x[0] == 0 and x[-1] == pytest.approx(0.3, abs=0.02)
    assert bpy.context.scene == before


def test_a_list_with_a_shot_that_has_no_range_shows_the_others(main, capfd):
    for _ in range(2):
        bpy.ops.sanawm.add_shot()
    bpy.context.scene.sana_wm_shots[0].frame_end = -5
    assert main(["list"]) == 1
    said = capfd.readouterr()
    assert "010_0010: the range ends at -5" in said.err and "010_0020 " in said.out


def test_a_file_without_a_list_has_one_shot_that_is_stale_until_it_is_made(main, capfd):
    assert main(["submit", "--stale"]) == 0
    assert "010_0010-v001" in capfd.readouterr().out
    assert main(["submit", "--failed"]) == 0
    assert "No shot needs a clip." in capfd.readouterr().err


def test_a_job_whose_folder_is_taken_away_is_not_waited_for(main, addon, capfd, monkeypatch):
    session = addon("session")
    tick = session.tick

    def tick_after_a_clean_up():
        for job in session.supervisor.jobs.values():
            shutil.rmtree(job.folder.path, ignore_errors=True)
        return tick()

    monkeypatch.setattr(session, "tick", tick_after_a_clean_up)
    assert main(["generate"]) == 1
    assert "010_0010-v001: The job folder was removed." in capfd.readouterr().err


@pytest.mark.parametrize(
    "argv, sentence",
    [
        (["list", "--scene", "Nowhere"], "There is no scene Nowhere in this file; there are"),
        (["submit", "--shots", "090"], "There is no shot 090 in the list; there are 010_0010"),
        (["submit", "--from", "nothing.csv"], "nothing.csv"),
        (["submit", "--takes", "0"], "takes must be a number from 1 to 99"),
        (["film"], "invalid choice"),
        ([], "arguments are required"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(main, capfd, argv, sentence):
    assert main(argv) == 2
    assert sentence in capfd.readouterr().err


def test_from_the_shell_a_list_becomes_clips_in_the_sequencer(
    film, shot_list, backend_python, tmp_path, protocol
):
    """`python -m backend submit LIST --blend FILE`, then `--command sana_wm generate --save`."""
    film.sana_wm.preset = "preview"
    bpy.ops.wm.save_mainfile()
    blend = bpy.data.filepath
    blender = tmp_path / "blender"
    program = shlex.join([sys.executable, str(ROOT / "tests" / "blender_program.py")])
    blender.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    blender.chmod(0o755)
    zip_file = package.build_zip(ROOT, tmp_path / "dist")
    variables = os.environ | {
        "SANA_WM_ZIP": str(zip_file),
        "SANA_WM_BACKEND": str(ROOT / ".env" / "backend"),
        "BLENDER_USER_RESOURCES": str(tmp_path / "user"),
        "PYTHONPATH": str(ROOT),
    }
    submit = [str(backend_python), "-m", "backend", "submit", str(shot_list), "--blend", blend]
    submit += ["--blender", str(blender), "--jobs", str(tmp_path / "farm")]
    done = subprocess.run(submit, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "Line 3 of shots.csv is left out" in done.stderr
    assert [job.name for job in protocol.list_jobs(tmp_path / "farm")] == ["010_0010-v001", "010_0030-v001"]

    command = [str(blender), "--background", blend, "--command", "sana_wm"]
    generate = [*command, "generate", "--from", str(shot_list), "--shots", "010_0030", "--save"]
    made = subprocess.run(generate, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300)
    assert made.returncode == 1, made.stderr  # for the row that is left out
    assert "010_0030-v001: done" in made.stdout
    bpy.ops.wm.open_mainfile(filepath=blend)
    editor = bpy.context.scene.sequence_editor
    names = [strip.name for strip in (editor.strips if hasattr(editor, "strips") else editor.sequences)]
    assert "010_0030-v001" in names
