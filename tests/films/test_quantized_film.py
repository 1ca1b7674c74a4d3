# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole miniature clip in 4 and in 8 bits: quantised while loading, or once by the command line."""

import json
import shutil
import threading

import numpy as np
import pytest

from backend.__main__ import main
from backend.films.released_models import ReleasedModels
from backend.protocol import JobFolder, Preset
from backend.protocol.weights_ready import why_not_ready
from backend.video import read_frames
from backend.worker import ModelShelf, run_job
from tests.worker.conftest import first_frame_png, shot

SIZE, SAMPLES = (160, 96), 25
DRAFT = Preset(
    "Draft",
    "For tests.",
    "sana_wm",
    SIZE,
    variant="streaming",
    step_list=(1000, 727, 0),
    guidance=1.0,
    precision="nvfp4",
    refiner=True,
)
PARTS = ("stage1_streaming", "refiner_streaming")


def made(folder, preset, weights):
    described = shot(SAMPLES, SIZE, preset=preset, prompt="a red house in the street")
    job = JobFolder.create(folder, described, first_frame_png(described))
    record = run_job(job, ModelShelf("cpu", weights), threading.Event())
    assert record.state == "done", record.reason
    return job


def pixels(job):
    return np.stack(list(read_frames(job.clip_mp4, job.clip().frame_count)))


def notes(job):
    events = [json.loads(line) for line in job.events.path.read_text().splitlines()]
    return " ".join(event["message"] for event in events if event["kind"] == "note")


def quantize(root, part, *words):
    return main(["weights", "quantize", "--weights", str(root), part, "--format", "nvfp4", *words])


def test_a_clip_in_nvfp4_is_the_same_from_plain_and_from_quantised_weights(release, tmp_path, capsys):
    root = tmp_path / "weights"
    shutil.copytree(release, root)
    job = made(tmp_path / "one", DRAFT, root)
    first = pixels(job)
    assert first.shape == (SAMPLES - 1, SIZE[1], SIZE[0], 3) and first.std() > 5
    assert "NVFP4: weights in 4 bits and activations as they are" in notes(job)
    assert "Stage 1, streaming and Refiner, streaming are quantised while they are loaded" in notes(job)
    assert "NVFP4: weights in 4 bits" in job.log_txt.read_text()

    for part in PARTS:
        assert quantize(root, part) == 0
    again = made(tmp_path / "two", DRAFT, root)
    assert np.array_equal(pixels(again), first)
    assert "quantised while" not in notes(again)
    stated = again.clip().model
    assert stated["stage1_streaming"] != job.clip().model["stage1_streaming"], "the quantised file's own hash"
    installed = json.loads((root / "installed.json").read_text())["components"]
    assert installed["refiner_streaming_nvfp4"]["files"]
    assert "in nvfp4" in (root / "NOTICES" / "MODIFIED_refiner_streaming_nvfp4.txt").read_text()
    assert ReleasedModels(DRAFT, "cpu", root).as_trained(DRAFT)[0].step_list == (1000, 960, 889, 727, 0)

    capsys.readouterr()
    assert main(["weights", "list", "--weights", str(root)]) == 0
    assert "stage1_streaming_nvfp4" in capsys.readouterr().out
    assert quantize(root, PARTS[0]) == 1
    assert "is there already; remove it" in capsys.readouterr().err

    # The plain weights may go, also those that the student was converted from.
    shutil.rmtree(root / "stage1_streaming")
    shutil.rmtree(root / "SANA-WM_streaming" / "refiner_diffusers" / "transformer")
    assert why_not_ready(root, DRAFT) == ""
    third = made(tmp_path / "three", DRAFT, root)
    assert np.array_equal(pixels(third), first)
    assert "NVFP4" in notes(third) and "quantised while" not in notes(third)


def test_a_clip_in_fp8_is_near_the_one_in_bf16(release, tmp_path):
    clips = {}
    for precision in ("bf16", "fp8"):
        preset = Preset("Final", "", "sana_wm", SIZE, steps=1, guidance=1.0, precision=precision)
        clips[precision] = pixels(made(tmp_path / precision, preset, release)).astype(float)
    assert 0 < np.abs(clips["fp8"] - clips["bf16"]).mean() < 5, "levels of 255"


@pytest.mark.parametrize(
    ("part", "words", "said"),
    [
        ("vae", (), "Video VAE has no linears that are quantised"),
        ("stage1_streaming", ("--format", "int4"), "invalid choice"),
    ],
)
def test_what_cannot_be_quantised_is_a_wrong_argument(part, words, said, tmp_path, capsys):
    with pytest.raises(SystemExit):
        quantize(tmp_path, part, *words)
    assert said in capsys.readouterr().err


def test_what_is_not_there_or_not_converted_is_one_sentence(release, tmp_path, capsys):
    root = tmp_path / "weights"
    assert quantize(root, "refiner") == 1
    assert "Refiner is not in" in capsys.readouterr().err
    shutil.copytree(release / "SANA-WM_streaming" / "sana_dit", root / "SANA-WM_streaming" / "sana_dit")
    assert quantize(root, "stage1_streaming") == 1
    assert "convert it first with weights convert" in capsys.readouterr().err


def test_another_folder_may_be_named(release, tmp_path):
    target = tmp_path / "elsewhere"
    assert quantize(release, "stage1_bidirectional", "--target", str(target)) == 0
    assert (target / "sana_wm_1600m_720p.safetensors").is_file()
    assert not (release / "stage1_bidirectional_nvfp4").exists()
