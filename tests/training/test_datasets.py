# SPDX-License-Identifier: GPL-3.0-or-later
"""From a dataset of shards to weights and an adapter, as a user goes, with a kill in between."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend.conditioning.camera import camera_tokens, chunk_plucker
from backend.data import cli as data_cli
from backend.data.shards import DatasetInfo, ShardReader, ShardWriter
from backend.models.stage1 import load
from backend.models.text import encode_stage1_prompt
from backend.protocol import CameraPath, Preset
from backend.protocol.weights_ready import loras_of
from backend.training import cli
from backend.training.flow_matching import FlowMatchingSettings
from backend.training.loop import CHECKPOINT
from backend.training.stage1_config import Stage1Run
from backend.training.stage1_data import data_of
from backend.training.stage1_training import ADAPTER, WEIGHTS
from tests.miniature_release import TEXT_WIDTH, accept_licences
from tests.miniature_text import write_gemma2
from tests.training.tiny_clips import ARCHITECTURE

ROOT = Path(__file__).parents[2]
SWITCHES = {"softmax_in_bf16": False}
CLIPS = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    size = ["--clips", str(CLIPS), "--frames", "9", "--size", "64x32", "--no-depth"]
    assert data_cli.main(["blockout", *size, "--out", str(folder)]) == 0
    return folder


def written(folder: Path, dataset: Path, **changes) -> Path:
    record = {
        "folder": "run", "data": str(dataset), "seed": 2, "steps": 20, "batch_clips": 1, "learning_rate": 1e-2,
        "evaluate_every": 4, "figure_clips": 1, "warm_up_steps": 1, "recipe": {"sample_steps": 2},
        "model": {"architecture": {**ARCHITECTURE, "in_channels": 128, "out_channels": 128}},
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(record | changes))
    return folder / "config.json"


def train(path: Path, *words: str) -> int:
    return cli.main(["flow_matching", "--config", str(path), *words])


def killed_after(path: Path, steps: int) -> None:
    """Run the command in a process of its own, and end it without warning."""
    table = path.parent / "run" / "losses.csv"

    def steps_done() -> int:
        return len(table.read_text().splitlines()) - 1 if table.exists() else 0

    command = [sys.executable, "-m", "backend", "train", "flow_matching", "--config", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while process.poll() is None and steps_done() < steps:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert steps <= steps_done() < 20, "it was to be killed behind its first checkpoint and before its end"


def losses(path: Path) -> list[float]:
    return [float(row["loss"]) for row in csv.DictReader((path.parent / "run" / "losses.csv").open())]


def heldout_figures(path: Path) -> list[float]:
    rows = csv.DictReader((path.parent / "run" / "curve.csv").open())
    return [float(value) for row in rows for name, value in row.items() if name != "cpu_s"]


def test_a_dataset_becomes_weights_and_an_adapter_though_the_run_is_killed(dataset, tmp_path):
    whole, killed = (written(tmp_path / name, dataset) for name in ("whole", "killed"))
    assert train(whole) == 0
    killed_after(killed, 6)
    assert train(killed) == 0
    # Two processes may find their memory aligned otherwise, which moves the last bit of a sum.
    assert losses(killed) == pytest.approx(losses(whole), rel=1e-4) and len(losses(whole)) == 20
    # Of the averaged weights, which are compared by what they do: where a gradient is nothing but rounding, the
    # optimiser's steps follow the rounding.
    assert heldout_figures(killed) == pytest.approx(heldout_figures(whole), rel=1e-3)

    base = {"model": {"checkpoint": str(tmp_path / "whole" / "run" / WEIGHTS), "architecture": SWITCHES}}
    adapted = written(tmp_path / "adapted", dataset, **base, lora={"rank": 2, "alpha": 4}, steps=6)
    assert train(adapted, "--until", "4") == train(adapted) == 0
    (tmp_path / "weights" / "loras").mkdir(parents=True)
    shutil.copy(tmp_path / "adapted" / "run" / ADAPTER, tmp_path / "weights" / "loras" / "mine.safetensors")
    preset = Preset.load(ROOT / "presets" / "quality" / "sana_wm_teacher.json")
    adapter = loras_of(tmp_path / "weights", replace(preset, stage1_lora="mine.safetensors"))["stage1"]
    clip = data_of(Stage1Run.load(whole, FlowMatchingSettings)).train.clip(0)
    timesteps = torch.full((1, 1, clip.frames), 500.0)
    velocities = []
    for file in (None, adapter):
        model = load(tmp_path / "whole" / "run" / WEIGHTS, SWITCHES, adapter=file)
        with torch.no_grad():
            velocities.append(
                model(clip.latents, timesteps, clip.text, clip.text_mask, clip.camera, clip.plucker)
            )
    assert (velocities[0] - velocities[1]).abs().max() > 1e-4, "the adapter changes what the model says"


def test_clips_come_with_their_cameras_and_the_first_ones_are_held_out(dataset, tmp_path):
    data = data_of(Stage1Run.load(written(tmp_path, dataset, figure_clips=2), FlowMatchingSettings))
    reader = ShardReader(dataset)
    for source, indices in ((data.heldout, (0, 1)), (data.train, (2, 3, 4))):
        assert len(source) == len(indices)
        for number, index in enumerate(indices):
            clip, stored = source.clip(number), reader[index]
            path = CameraPath(stored.c2w.numpy(), stored.intrinsics.numpy(), (64, 32))
            assert torch.equal(clip.latents[0], stored.latents.float())
            assert torch.equal(clip.camera[0], camera_tokens(path, (2, 4, 8)))
            assert torch.equal(clip.plucker[0], chunk_plucker(path, (2, 4, 8)))
    shown = data.heldout.pictures(data.heldout.clip(0).latents[0])
    assert shown.shape == (9, 3, 32, 64) and 0.05 < shown.std() < 0.5
    elsewhere = Stage1Run.load(written(tmp_path, dataset, heldout=str(dataset)), FlowMatchingSettings)
    assert len(data_of(elsewhere).train) == len(data_of(elsewhere).heldout) == CLIPS


def test_captions_are_encoded_once_and_then_need_no_encoder(dataset, tmp_path, capsys):
    weights = tmp_path / "weights"
    encoder = weights / "gemma-2-2b-it"
    write_gemma2(encoder, channels=TEXT_WIDTH)
    accept_licences(weights)
    reads = {
        "architecture": {
            **ARCHITECTURE,
            "in_channels": 128,
            "out_channels": 128,
            "caption_channels": TEXT_WIDTH,
        }
    }
    path = written(tmp_path / "a", dataset, weights=str(weights), model=reads, steps=2)
    assert train(path, "--until", "1") == 0
    assert f"of {CLIPS + 1} encoded" in capsys.readouterr().out, "every caption, and the empty prompt"
    caption = ShardReader(dataset).caption(1)
    expected = encode_stage1_prompt(caption, encoder, encoder)
    shutil.rmtree(encoder)
    assert train(path) == 0
    clip = data_of(Stage1Run.load(path, FlowMatchingSettings)).train.clip(0)
    assert torch.equal(clip.text, expected.states.float()) and torch.equal(
        clip.text_mask, expected.mask.float()
    )
    assert clip.text_mask.sum() > 10
    other = written(tmp_path / "b", dataset, weights=str(weights), model=reads)
    assert train(other) == 1
    assert (
        "6 prompts are to be encoded, and Gemma-2-2B, stage 1's text encoder is not"
        in capsys.readouterr().err
    )
    assert train(written(tmp_path / "c", dataset, model=reads)) == 1
    assert "the folder with the text encoder as weights" in capsys.readouterr().err


def changed(folder: Path, clips: dict[str, torch.Tensor], **changes) -> Path:
    """A dataset of two clips of these tensors."""
    info = replace(DatasetInfo("linear", "", (64, 32), 9, "footage"), **changes)
    with ShardWriter(folder, info) as writer:
        for name in ("a", "b"):
            writer.add(name, clips, "", {})
        writer.finish()
    return folder


def test_clips_that_do_not_fit_are_refused_in_a_sentence(dataset, tmp_path, capsys):
    stored, info = ShardReader(dataset)[0], ShardReader(dataset).info
    camera = {"c2w": stored.c2w, "intrinsics": stored.intrinsics}
    own = {"codec_sha256": info.codec_sha256}
    latents = {"latents": stored.latents, **camera}
    run = written(tmp_path / "run", dataset, steps=2)
    assert train(run) == 0
    start = {"model": {"checkpoint": str(tmp_path / "run" / "run" / WEIGHTS), "architecture": SWITCHES}}
    frames = {"frames": torch.zeros(9, 32, 64, 3, dtype=torch.uint8), **camera}
    cases = {
        "keeps frames": (changed(tmp_path / "1", frames, codec="none"), {}),
        "made by another codec": (changed(tmp_path / "2", latents), {}),
        "trained on latents of the codec linear": (changed(tmp_path / "3", latents, codec="ltx2"), start),
        "not 2 steps of 96 x 32 pixels": (changed(tmp_path / "4", latents, size=(96, 32), **own), {}),
        "5 are held out and 0 left": (dataset, {"figure_clips": CLIPS}),
        "with the same settings": (dataset, {"heldout": str(changed(tmp_path / "5", latents, size=(128, 64), **own))}),
    }  # fmt: skip
    for number, (sentence, (folder, changes)) in enumerate(cases.items()):
        path = written(tmp_path / f"case{number}", folder, **changes)
        assert train(path) == 1, sentence
        assert sentence in capsys.readouterr().err
        assert not (path.parent / "run" / CHECKPOINT).exists()
    written(tmp_path / "run", changed(tmp_path / "6", latents, **own), steps=4)
    assert train(run) == 1
    assert "was begun on other clips (clips was 4 and is 1" in capsys.readouterr().err


def test_a_full_disk_leaves_the_old_checkpoint(dataset, tmp_path, capsys):
    """A limit on the size of files stands for it: the first checkpoint is written without."""
    resource = pytest.importorskip("resource", reason="not on Windows")
    path = written(tmp_path, dataset, steps=4, evaluate_every=2)
    assert train(path, "--until", "2") == 0
    before = (tmp_path / "run" / CHECKPOINT).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        assert train(path) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "The last checkpoint is whole; make room, and start the same command" in capsys.readouterr().err
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == before
    assert not list((tmp_path / "run").glob("*.partial"))
    assert train(path) == 0 and len(losses(path)) == 4
