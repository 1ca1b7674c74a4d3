# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded model's recipe at toy size: clips, codec, network, resume, tables of pictures, gates, export."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch

from backend.models.vae import LinearCodec
from backend.training import cli, picture_tables, precision, scene_files, student_gate
from backend.training.checkpoint import TrainingState
from backend.training.config import RecipeConfig
from backend.training.detail_clips import DetailClips, augmented, make_missing, with_one_frame
from backend.training.fit_codec import codec_psnr, fit_codec
from backend.training.residual_flow import train, trained_model, untrained_model
from backend.weights.embedded import load_embedded
from tests.training.toy_recipe import TOY, configured, elsewhere


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RecipeConfig:
    """With clips in place."""
    made = configured(tmp_path_factory.mktemp("recipe"))
    list(make_missing(made))
    return made


def test_fine_frames_are_the_coarse_ones_at_twice_the_size_also_when_changed(config):
    clip = DetailClips(config, "train")[0]
    for seed in range(4):
        changed = augmented(clip, torch.Generator().manual_seed(seed))
        coarse, fine = changed.coarse, changed.fine
        halved = torch.nn.functional.avg_pool2d(fine.projection.base, 2)
        assert (halved - coarse.projection.base[clip.frames]).abs().max() < 0.01
        halved = torch.nn.functional.avg_pool2d(fine.truth, 2)
        assert (halved - coarse.truth[clip.frames]).abs().mean() < 0.02
        assert fine.projection.unit_m == coarse.projection.unit_m


def test_a_batch_has_one_fine_frame_of_each_clip_with_its_number(config):
    clips, drawn = DetailClips(config, "train"), set()
    for seed in range(12):
        clip = with_one_frame(clips[1], torch.Generator().manual_seed(seed))
        number = clips[1].frames.tolist().index(int(clip.frames))
        assert torch.equal(clip.fine.truth[0], clips[1].fine.truth[number])
        assert torch.equal(clip.fine.projection.nearness[0], clips[1].fine.projection.nearness[number])
        drawn.add(number)
    assert len(drawn) == TOY["filter_frames"]


def test_a_stopped_run_goes_on_exactly_where_it_was(config, tmp_path):
    longer = dataclasses.replace(config, steps=13, evaluate_every=10)
    whole, halves = (elsewhere(longer, tmp_path / name) for name in ("whole", "halves"))
    list(train(whole))
    list(train(halves, until_step=3))
    list(train(halves))
    states = [dict(trained_model(run).named_parameters()) for run in (whole, halves)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), f"{name} differs after a resumed run"
    tables = [list(csv.DictReader((tmp_path / name / "losses.csv").open())) for name in ("whole", "halves")]
    for rows in tables:
        assert len(rows) == 13 and all(row.pop("samples_per_s") for row in rows)
    assert tables[0] == tables[1], "the next ten losses, digit for digit"
    rows = (tmp_path / "whole" / "curve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "10", "13"]
    assert [path.name for path in sorted((tmp_path / "whole").glob("*.png"))] == [
        "sheet_000010.png",
        "sheet_000013.png",
    ]


def test_four_clips_are_learnt(config, tmp_path):
    """In 50 steps the error in the holes falls to two thirds of what adding nothing leaves, which is the untrained
    network's and the loss of the first step; the loss has its logarithm one and a half times."""
    run = dataclasses.replace(
        elsewhere(config, tmp_path), steps=50, evaluate_every=50, batch_clips=4, learning_rate=5e-3
    )
    list(train(run))
    losses = [float(row["loss"]) for row in csv.DictReader((tmp_path / "losses.csv").open())]
    assert np.mean(losses[-5:]) < losses[0] - 1.5 * np.log(1.5), losses


def test_a_run_has_the_codec_that_ships_or_one_of_its_own(config, tmp_path):
    run = elsewhere(config, tmp_path)
    ships = untrained_model(run).codec
    assert torch.equal(ships.temporal_basis, load_embedded().codec.temporal_basis)
    fitted = fit_codec(run)
    assert torch.equal(untrained_model(run).codec.temporal_basis, fitted.temporal_basis)
    assert codec_psnr(run, fitted) > 20 > codec_psnr(run, LinearCodec())


def test_the_table_of_pictures_puts_the_fill_above_the_first_frame_also_graded_and_painted(tmp_path):
    def nothing(example, first):
        return lambda frames, strength: {number: frame.base for number, frame in frames.items()}

    scene = [e for e in picture_tables.generated_scene(0, (96, 48)) if e.move in ("dolly out", "pan left")]
    rows = picture_tables.compared(scene, nothing, tmp_path)
    table = picture_tables.summary(rows)
    assert table["clips"] == 2
    assert table["rendered"]["table"]["guided fill"]["own_move"] == 1
    assert table["gate"]["holes_gain_db"] == 0 and not table["gate"]["passed"]
    assert table["default_blend"] == 0, "what does not pass is off"
    for style in picture_tables.STYLES:
        holes = {method: figures["holes"] for method, figures in table[style]["table"].items()}
        assert holes["guided fill"] > holes["repeat first frame"] + 3
        assert holes["network"] == holes["guided fill"], "it changed nothing"
    assert table["rendered"]["table"] != table["graded"]["table"] != table["painted"]["table"]
    assert len(list(tmp_path.glob("00_dolly_out_*.png"))) == len(picture_tables.STYLES)


def test_a_student_counts_where_it_is_nearer_than_the_teachers_few_steps_in_mean_and_worst_tenth():
    def rows(student, few):
        names = student_gate.STUDENT, student_gate.FEW
        return [{"to_full": dict(zip(names, pair, strict=True))} for pair in zip(student, few, strict=True)]

    near, far = np.full(20, 0.01), np.full(20, 0.02)
    spread = np.where(np.arange(20) < 17, 0.001, 0.05)
    assert student_gate.gate(rows(near, far))["passed"]
    assert not student_gate.gate(rows(far, near))["passed"]
    assert spread.mean() < far.mean() and not student_gate.gate(rows(spread, far))["passed"]


def test_the_gate_asks_for_more_in_the_holes_and_no_move_that_loses():
    def rows(gains):
        about = [{"style": "rendered", "scene": n, "move": move} for n in range(2) for move in gains]
        base = [{**row, "method": picture_tables.FILL, "holes": 30.0} for row in about]
        return base + [{**r, "method": picture_tables.NETWORK, "holes": 30 + gains[r["move"]]} for r in about]

    assert picture_tables.gate(rows({"pan left": 0.8, "dolly in": 0.9}))["passed"]
    assert not picture_tables.gate(rows({"pan left": 0.6, "dolly in": 0.7}))["passed"], "too little"
    assert not picture_tables.gate(rows({"pan left": 2.9, "dolly in": -0.1}))["passed"], "one move loses"


def test_the_weights_that_ship_are_no_student_in_one_step(config, tmp_path, monkeypatch):
    monkeypatch.setattr(student_gate, "FULL_STEPS", 8)
    longer = dataclasses.replace(config, folder=str(tmp_path), scenes=0, frames=49)
    list(make_missing(longer))
    clip, ships = DetailClips(longer, "heldout")[4], load_embedded()
    models = dict.fromkeys(("final", "teacher", "student"), ships)
    rows = list(student_gate.compared(models, [clip], (1000, 0)))
    far = rows[0]["to_full"]
    assert 0 < far[student_gate.FEW] < far[student_gate.STUDENT]
    result = student_gate.report(rows)
    assert not result["student"]["passed"] and result["clips"] == 1
    assert result["holes_db"]["guided fill"]["1.0"] != result["holes_db"]["student"]["1.0"]


def test_what_4_bits_cost_is_told_beside_the_model_that_ships(config, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "CAMERA_SIZE", (192, 96))
    monkeypatch.setattr(precision, "scene_of", one_move)
    run = elsewhere(config, tmp_path)
    list(precision.precision_report(run, camera_scenes=1))
    record = json.loads((tmp_path / "precision.json").read_text())
    assert 0.5 < record["size_ratio"] < 0.7 and record["bytes"]["fp16"] == 2_087_120
    nothing, plain, weights, both = record["pictures"].values()
    assert plain["off_plain"] == 0 < weights["off_plain"] < both["off_plain"] < 0.3
    assert plain["whole_db"] != nothing["whole_db"]
    names = [(row["name"], row["strength"]) for row in record["camera"]]
    assert names[0] == ("no network", 0.0) and len(names) == 7 and names[1] == ("fp32", 1.0)
    assert all(row["clips"] == 1 for row in record["camera"])


def one_move(*of):
    """Of a held-out scene."""
    scene, rays, paths = scene_files.scene_of(*of)
    return scene, rays, {"dolly in": paths["dolly in"]}


def test_export_writes_the_weights_with_the_strength_that_the_card_allows(
    config, tmp_path, monkeypatch, capsys
):
    run, weights = elsewhere(config, tmp_path / "run"), tmp_path / "weights"
    TrainingState(untrained_model(run), run).save(tmp_path / "run" / "checkpoint.safetensors")
    (tmp_path / "toy.json").write_text(json.dumps({**TOY, "folder": str(tmp_path / "run")}))
    arguments = ["--config", str(tmp_path / "toy.json")]
    assert cli.main(["export", *arguments, "--to", str(weights)]) == 1
    assert "run card first" in capsys.readouterr().err
    scenes = picture_tables.generated_scenes(1, (64, 32))
    monkeypatch.setattr(picture_tables, "generated_scenes", lambda: scenes)
    assert cli.main(["card", *arguments]) == cli.main(["export", *arguments, "--to", str(weights)]) == 0
    card = json.loads((tmp_path / "run" / "card" / "table.json").read_text())
    assert load_embedded(folder=weights).config.default_blend == card["default_blend"]
