# SPDX-License-Identifier: GPL-3.0-or-later
"""Check Machine in the preferences: the backend's report, followed to its end and shown as a text."""

import os
import re
import time

import bpy
import pytest

from tests.recording_layout import RecordingLayout


@pytest.fixture
def preferences(empty_file, addon, backend_python, tmp_path):
    """The extension's preferences, with an empty weights folder and the backend of this checkout."""
    chosen = addon("paths").preferences()
    chosen.backend_folder = str(backend_python.parents[1])
    chosen.weights_folder = str(tmp_path / "weights")
    yield chosen
    chosen.weights_folder = ""
    addon("session").machine_check = None


def drawn(addon, preferences):
    layout = RecordingLayout()
    addon("panels.weights").draw_weights(layout, bpy.context, preferences)
    return " ".join(" ".join(layout.shown).split())


def wait(session):
    deadline = time.monotonic() + 120
    while session.is_checking_machine():
        assert time.monotonic() < deadline
        session.tick()
        time.sleep(0.05)


def test_the_report_is_followed_and_opens_as_a_text(preferences, addon, tmp_path):
    session = addon("session")
    assert "Check Machine" in drawn(addon, preferences)
    assert not bpy.ops.sanawm.show_machine_report.poll()
    assert bpy.ops.sanawm.check_machine() == {"FINISHED"}
    assert not bpy.ops.sanawm.check_machine.poll(), "one at a time"
    assert "Looking at this machine" in drawn(addon, preferences)
    wait(session)
    shown = drawn(addon, preferences)
    assert re.search(r"\d+ of \d+ presets can run. Nothing is damaged.", shown) and "Show Report" in shown
    assert len(bpy.data.texts) == 0, "the file has a text only when it was asked for"
    for _ in range(2):
        assert bpy.ops.sanawm.show_machine_report() == {"FINISHED"}
    (text,) = bpy.data.texts
    lines = [line.body for line in text.lines]
    assert lines[0] == "Machine" and any(line.startswith("  Embedded Final 640×352") for line in lines)
    assert "There is no folder" in text.as_string() and not (tmp_path / "weights").exists()


def test_without_a_backend_the_reason_is_said(preferences, addon, tmp_path):
    preferences.backend_folder = str(tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match="The backend is not set up yet"):
        bpy.ops.sanawm.check_machine()
    assert addon("session").machine_check is None


@pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for the interpreter")
def test_a_backend_that_cannot_say_anything_is_told(preferences, addon, tmp_path):
    (tmp_path / "bin").mkdir()
    broken = tmp_path / "bin" / "python"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 3\n")
    broken.chmod(0o755)
    preferences.backend_folder = str(tmp_path)
    bpy.ops.sanawm.check_machine()
    wait(addon("session"))
    assert "It stopped with exit code 3: no such library" in drawn(addon, preferences)
    assert not bpy.ops.sanawm.show_machine_report.poll()
