# SPDX-License-Identifier: GPL-3.0-or-later
"""SANA-WM Weights in the preferences: what is here, the terms, and a download followed to its end."""

import json
import time

import bpy
import pytest

from tests.recording_layout import RecordingLayout
from tests.weights.hub import BIDIRECTIONAL, Hub, vae_files


class _WithLayout:
    """The preferences with our layout in place of Blender's, which exists only while a window draws."""

    def __init__(self, preferences):
        self._preferences, self.layout = preferences, RecordingLayout()

    def __getattr__(self, name):
        return getattr(self._preferences, name)


def drawn(preferences):
    recorded = _WithLayout(preferences)
    type(preferences).draw(recorded, bpy.context)
    return " | ".join(recorded.layout.shown)


@pytest.fixture
def preferences(empty_file, addon, backend_python, tmp_path):
    """The extension's preferences, with an empty weights folder and the backend of this checkout."""
    chosen = addon("paths").preferences()
    chosen.backend_folder = str(backend_python.parents[1])
    chosen.weights_folder = str(tmp_path / "weights")
    chosen.weights_preset = "sana_wm_final"
    yield chosen
    chosen.weights_folder = ""
    addon("session").weights_errand = None


@pytest.fixture
def online():
    bpy.context.preferences.system.use_online_access = True
    yield
    bpy.context.preferences.system.use_online_access = False


def wait(session):
    deadline = time.monotonic() + 120
    while session.is_on_weights_errand():
        assert time.monotonic() < deadline
        session.tick()
        time.sleep(0.05)


def test_what_a_preset_needs_is_shown_with_sizes_and_terms(preferences):
    shown = drawn(preferences)
    own = shown[shown.index("LTX-2 Community License") :]
    assert "Refiner | 37.8 GB | Missing" in own, "below its license"
    assert "Gemma-3-12B, the refiner's text encoder | 48.8 GB" in shown
    assert "Download 107.7 GB" in shown and "Verify" not in shown
    assert shown.count("Accept License") == 3 and shown.count("Read License") == 3
    assert "Free below USD 10 million" in shown
    preferences.weights_preset = "sana_wm_draft"
    shown = drawn(preferences)
    assert "Stage 1, streaming | Size not known" in shown and "Video VAE, causal" in shown


def test_accepting_is_recorded_and_shown(preferences, tmp_path):
    assert bpy.ops.sanawm.accept_licence(licence="ltx2") == {"FINISHED"}
    record = json.loads((tmp_path / "weights" / "licences.json").read_text("utf-8"))
    assert list(record["accepted"]) == ["ltx2"]
    shown = drawn(preferences)
    assert shown.count("Accept License") == 2
    assert "LTX-2 Community License | Read License | Accepted" in shown


def test_downloading_waits_for_online_access(preferences):
    bpy.context.preferences.system.use_online_access = False
    assert not bpy.ops.sanawm.download_weights.poll()
    with pytest.raises(RuntimeError, match="allow online access"):
        bpy.ops.sanawm.download_weights()


def test_downloading_waits_for_the_terms(preferences, online, addon):
    with pytest.raises(RuntimeError, match="Accept first: LTX-2 Community License"):
        bpy.ops.sanawm.download_weights(component="vae")
    assert addon("session").weights_errand is None


def test_without_a_backend_the_reason_is_said(preferences, online, tmp_path):
    preferences.backend_folder = str(tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match="The backend is not set up yet"):
        bpy.ops.sanawm.download_weights(component="vae")


@pytest.fixture
def hub(monkeypatch):
    served = Hub({BIDIRECTIONAL: vae_files("vae", causal=False)})
    monkeypatch.setenv("HF_ENDPOINT", served.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield served
    served.close()


def test_a_component_is_downloaded_verified_and_removed(preferences, online, hub, addon, tmp_path):
    session = addon("session")
    bpy.ops.sanawm.accept_licence(licence="ltx2")
    assert bpy.ops.sanawm.download_weights(component="vae") == {"FINISHED"}
    assert not bpy.ops.sanawm.download_weights.poll()
    assert "Cancel" in drawn(preferences)
    wait(session)
    assert session.weights_errand.outcome == "done", session.weights_errand.message
    shown = drawn(preferences)
    assert "Video VAE | 2.4 GB | Present" in shown and "Downloaded: Video VAE." in shown
    bpy.ops.sanawm.verify_weights(component="vae")
    wait(session)
    assert "1 component is whole." in drawn(preferences)
    bpy.ops.sanawm.remove_weights(component="vae")
    wait(session)
    assert "Video VAE | 2.4 GB | Missing" in drawn(preferences)
    assert not (tmp_path / "weights" / "vae").exists()


def test_a_download_can_be_cancelled(preferences, online, hub, addon, tmp_path):
    session = addon("session")
    hub.holds["vae/config.json"] = 5
    bpy.ops.sanawm.accept_licence(licence="ltx2")
    bpy.ops.sanawm.download_weights(component="vae")
    deadline = time.monotonic() + 60
    while not hub.sent:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert bpy.ops.sanawm.cancel_weights() == {"FINISHED"}
    wait(session)
    assert session.weights_errand.outcome == "cancelled"
    assert "Stopped; the next download goes on" in drawn(preferences)


def test_a_copy_of_the_release_is_recognised(preferences, tmp_path):
    for name, content in vae_files("vae", causal=False).items():
        path = tmp_path / "copy" / "SANA-WM_bidirectional" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    preferences.weights_folder = str(tmp_path / "copy")
    assert "Video VAE | 2.4 GB | In SANA-WM_bidirectional" in drawn(preferences)


def test_what_only_has_to_be_converted_is_not_offered_for_download(preferences, addon, tmp_path):
    (tmp_path / "weights" / "stage1_streaming").mkdir(parents=True)
    (tmp_path / "weights" / "stage1_streaming" / "model.pt").touch()
    preferences.weights_preset = "sana_wm_draft"
    shown = drawn(preferences)
    assert "Stage 1, streaming | Size not known | Not converted yet" in shown and "Convert" in shown
    assert "Download 97.0 GB" in shown, "without the size that is not known"


def test_a_weights_folder_on_a_disk_that_is_away_is_said(preferences, addon, monkeypatch):
    def away(_folder):
        raise OSError("No such device")

    monkeypatch.setattr(addon("panels.weights").shutil, "disk_usage", away)
    assert "This folder cannot be reached" in drawn(preferences)


def test_a_damaged_record_is_shown_and_does_not_break_the_preferences(preferences, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "licences.json").write_text("[]", "utf-8")
    assert "is damaged" in drawn(preferences)
