# SPDX-License-Identifier: GPL-3.0-or-later
"""The presets that ship: they load, say what they are, and those that cannot run are refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backend.protocol import CameraPath, JobFolder, Shot, Source, list_presets
from backend.weights.embedded import FOLDER

ROOT = Path(__file__).parents[2]
PRESETS = list_presets(ROOT / "presets" / "quality")
EMBEDDED = {stem: preset for stem, preset in PRESETS.items() if preset.model == "embedded"}
RELEASED = {stem: preset for stem, preset in PRESETS.items() if preset.model == "sana_wm"}
NOT_TRAINED = "not trained for this variant"


def test_the_names_that_blend_files_remember_are_there():
    assert {"embedded", "embedded_1280"} <= set(EMBEDDED)
    names = [preset.name for preset in PRESETS.values()]
    assert len(names) == len(set(names)), "two presets look the same in the list"


@pytest.mark.parametrize("models", [EMBEDDED, RELEASED], ids=["embedded", "sana_wm"])
def test_each_model_has_a_final_a_teacher_and_a_draft(models):
    kinds = {"Final": "bidirectional", "Teacher": "chunk_causal", "Draft": "streaming"}
    found = {(word, p.variant) for p in models.values() for word in p.name.split() if word in kinds}
    assert found == set(kinds.items())


@pytest.mark.parametrize("preset", EMBEDDED.values(), ids=list(EMBEDDED))
def test_a_description_says_where_the_weights_were_not_trained_for_the_variant(preset):
    trained = json.loads((FOLDER / "config.json").read_text()).get("trained_variants", ["bidirectional"])
    assert (NOT_TRAINED in preset.description) is (preset.variant not in trained), preset.description
    if NOT_TRAINED in preset.description:
        assert f"runs the {' and '.join(trained)} weights" in preset.description


def job_of(folder: Path, preset) -> JobFolder:
    """An exported job of two 1.5 s chunks, standing still."""
    width, height = preset.image_size
    lens = [width / 2, width / 2, width / 2, height / 2]
    camera = CameraPath(np.tile(np.eye(4), (49, 1, 1)), np.tile(lens, (49, 1)), preset.image_size)
    shot = Shot("010_0010", "Shot", camera, "", "", 0, preset, Source("", "Scene", "Camera", 1, 72, 24.0))
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return JobFolder.create(folder, shot, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + size, queue=False)


def submit(job: JobFolder, queue: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "backend", "submit", str(job.path), "--jobs", str(queue)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("stem", ["embedded_draft", *RELEASED])
def test_submit_queues_every_preset_that_ships(stem, tmp_path):
    job, queue = job_of(tmp_path / "exported", PRESETS[stem]), tmp_path / "jobs"
    submitted = submit(job, queue)
    assert submitted.returncode == 0, submitted.stderr
    assert JobFolder(queue / job.name).state().state == "queued"
