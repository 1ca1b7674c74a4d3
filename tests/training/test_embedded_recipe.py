# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded model's recipe at toy size: data, codec, network, resume, figures."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch

from backend.models.vae import LinearCodec
from backend.training import camera_only, camera_study, cli, precision, scene_files
from backend.training.augment import mirrored
from backend.training.checkpoint import TrainingState
from backend.training.clip_files import ClipSet, project_missing
from backend.training.config import RecipeConfig
from backend.training.fit_codec import fit_codec
from backend.training.report import heldout_report
from backend.training.residual_flow import new_model, train, trained_model
from backend.training.scene_files import render_missing
from backend.weights.embedded import FOLDER, load_embedded

TOY = {
    "folder": "run",
    "seed": 5,
    "scenes": 2,
    "moves_per_scene": 2,
    "frames": 9,
    "raster": [32, 16],
    "heldout_scenes": 1,
    "heldout_raster": [32, 16],
    "hidden_size": 32,
    "blocks": 4,
    "mlp_ratio": 1.0,
    "filter_width": 4,
    "steps": 6,
    "batch_clips": 2,
    "learning_rate": 0.001,
    "weight_decay": 0.01,
    "ema": 0.9,
    "clip_norm": 1.0,
    "filter_frames": 3,
    "one_step_share": 0.5,
    "evaluate_every": 3,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RecipeConfig:
    """With data and codec in place."""
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "toy.json").write_text(json.dumps(TOY))
    made = RecipeConfig.load(folder / "toy.json")
    list(render_missing(made))
    list(project_missing(made))
    fit_codec(made)
    return made


def elsewhere(config: RecipeConfig, tmp_path) -> RecipeConfig:
    """The same run with the same data, but checkpoints of its own."""
    tmp_path.mkdir(exist_ok=True)
    for name in ("train", "heldout", "codec.safetensors"):
        (tmp_path / name).symlink_to(f"{config.folder}/{name}")
    return dataclasses.replace(config, folder=str(tmp_path))


def test_a_stopped_run_goes_on_exactly_where_it_was(config, tmp_path):
    longer = dataclasses.replace(config, steps=13, evaluate_every=10)
    whole, halves = (elsewhere(longer, tmp_path / name) for name in ("whole", "halves"))
    list(train(whole))
    list(train(halves, until_step=3))
    list(train(halves))
    states = []
    for run in (whole, halves):
        model = trained_model(run)
        states.append(dict(model.named_parameters()))
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), f"{name} differs after a resumed run"
    tables = [list(csv.DictReader((tmp_path / name / "losses.csv").open())) for name in ("whole", "halves")]
    for rows in tables:
        assert len(rows) == 13 and all(row.pop("samples_per_s") for row in rows)
    assert tables[0] == tables[1], "the next ten losses, digit for digit"
    rows = (tmp_path / "whole" / "curve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "10", "13"]


def test_the_camera_only_recipe_goes_on_too(config, tmp_path):
    short = dataclasses.replace(config, steps=4, evaluate_every=4)
    whole, halves = (elsewhere(short, tmp_path / name) for name in ("whole", "halves"))
    list(camera_only.train(whole))
    list(camera_only.train(halves, until_step=2))
    assert not (tmp_path / "halves" / camera_only.WEIGHTS).exists()
    list(camera_only.train(halves))
    written = [(tmp_path / name / camera_only.WEIGHTS).read_bytes() for name in ("whole", "halves")]
    assert written[0] == written[1]
    model = camera_only.CameraOnlyModel(config.hidden_size, config.blocks, config.mlp_ratio)
    assert model.stage1.config.in_channels == 2 * 128, "noisy latents and the first frame's, no geometry"


def test_the_camera_study_tells_a_model_that_knows_its_camera_from_one_that_does_not(config, tmp_path):
    run = dataclasses.replace(elsewhere(config, tmp_path), steps=2, evaluate_every=2)
    with pytest.raises(FileNotFoundError, match="train camera-only first"):
        list(camera_study.study(run))
    list(camera_only.train(run, until_step=1))
    lines = list(camera_study.study(run))
    assert "step 1 of 2" in lines[0] and "chance is 17%" in lines[0]
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if line.startswith("| ")}
    truth, still = (
        [float(cell.strip(" %")) for cell in rows[name]] for name in ("truth", "first frame, repeated")
    )
    assert truth[2] == 100 and still[0] == 0 and still[2] < 50, "flow cosine, gain, share of own paths"
    assert (tmp_path / "camera_sheet.jpg").exists()


def test_a_model_that_cannot_look_at_its_camera_explains_all_moves_alike(config):
    clips = ClipSet(config, "heldout")
    scene = [clips[index] for index in range(len(clips))]
    torch.manual_seed(0)
    model, codec = (
        camera_only.camera_only_model(config),
        LinearCodec.load(camera_only.CODEC_FOLDER / "codec.safetensors"),
    )
    blind = camera_study.explained(model, codec, scene, 1.0)
    torch.testing.assert_close(
        blind, blind[:, :1].expand_as(blind), msg="untrained: the camera's projections are 0"
    )
    torch.nn.init.normal_(model.stage1.final_layer.linear.weight, std=0.1)
    for block in model.stage1.blocks:
        torch.nn.init.normal_(block.attn.out_proj_cam.weight, std=0.1)
    seeing = camera_study.explained(model, codec, scene, 1.0)
    assert (seeing.amax(1) > 1.00001 * seeing.amin(1)).all()
    assert camera_study.own_best(1 - torch.eye(6)[None]) == 1


def test_four_clips_are_learnt(config, tmp_path):
    """In 50 steps the error in the holes falls to two thirds of what adding nothing leaves, which is the untrained
    network's and the loss of the first step; the loss has its logarithm one and a half times."""
    run = dataclasses.replace(
        elsewhere(config, tmp_path), steps=50, evaluate_every=50, batch_clips=4, learning_rate=5e-3
    )
    # The codec of so few clips has units of its own, in which the latents' error outweighs the pictures'.
    (tmp_path / "codec.safetensors").unlink()
    (tmp_path / "codec.safetensors").symlink_to(FOLDER / "codec.safetensors")
    list(train(run))
    losses = [float(row["loss"]) for row in csv.DictReader((tmp_path / "losses.csv").open())]
    assert np.mean(losses[-5:]) < losses[0] - 1.5 * np.log(1.5), losses


def test_a_mirrored_clip_is_the_mirrored_scene(config):
    """The mirrored path moves points to mirrored pixels."""
    clip = ClipSet(config, "train")[1]
    flipped = mirrored(clip)
    world = np.array([0.3, 0.2, 2.0])
    sample = len(clip.path) - 1

    def pixel(path, point):
        local = np.linalg.inv(path.c2w[sample]) @ [*point, 1]
        fx, fy, cx, cy = path.intrinsics[sample]
        return np.array([fx * local[0] / local[2] + cx, fy * local[1] / local[2] + cy])

    seen = clip.path.c2w[0] @ [*world, 1]
    before = pixel(clip.path, seen[:3])
    after = pixel(flipped.path, (flipped.path.c2w[0] @ [-world[0], world[1], world[2], 1])[:3])
    np.testing.assert_allclose(after, [clip.path.image_size[0] - before[0], before[1]], atol=1e-6)
    assert torch.equal(flipped.truth, clip.truth.flip(-1))
    assert torch.equal(mirrored(flipped).projection.base, clip.projection.base)


def test_the_same_seed_gives_the_same_data(config, tmp_path):
    again = dataclasses.replace(config, folder=str(tmp_path), scenes=1, heldout_scenes=0)
    list(render_missing(again))
    list(project_missing(again))
    for name in ("truth", "path"):
        first, second = (getattr(ClipSet(run, "train")[0], name) for run in (config, again))
        assert torch.equal(first, second) if name == "truth" else first == second


def test_the_report_of_an_untrained_network_shows_no_gain(config, tmp_path):
    run = elsewhere(config, tmp_path)
    untrained = new_model(run, LinearCodec.load(tmp_path / "codec.safetensors"))
    TrainingState(untrained, run).save(tmp_path / "checkpoint.safetensors")
    list(heldout_report(run, trained_model(run)))
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["gate"]["holes_gain_db"] == pytest.approx(0, abs=0.02)
    assert not card["gate"]["passed"]
    assert card["default_blend"] == 0.25, "what changes nothing does no harm"
    assert card["table"]["guided fill"]["whole"] > card["table"]["repeat first frame"]["whole"]
    assert list(tmp_path.glob("sheet_*.png"))


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


def test_export_writes_the_weights_with_the_strength_that_the_card_allows(config, tmp_path, monkeypatch):
    run = elsewhere(config, tmp_path / "run")
    untrained = new_model(run, LinearCodec.load(tmp_path / "run" / "codec.safetensors"))
    TrainingState(untrained, run).save(tmp_path / "run" / "checkpoint.safetensors")
    monkeypatch.setattr(cli, "FOLDER", tmp_path / "weights")
    record = {**TOY, "folder": str(tmp_path / "run")}
    (tmp_path / "toy.json").write_text(json.dumps(record))
    arguments = ["--config", str(tmp_path / "toy.json")]
    assert cli.main(["export", *arguments]) == 1  # no card yet
    assert cli.main(["card", *arguments]) == cli.main(["export", *arguments]) == 0
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert load_embedded(folder=tmp_path / "weights").config.default_blend == card["default_blend"]


def test_wrong_settings_are_a_sentence(tmp_path, capsys):
    wrong = {**TOY, "frames": 10}
    (tmp_path / "toy.json").write_text(json.dumps(wrong))
    assert cli.main(["network", "--config", str(tmp_path / "toy.json")]) == 1
    assert "frames must be 8k + 1, not 10" in capsys.readouterr().err
    (tmp_path / "toy.json").write_text(json.dumps({**TOY, "stepz": 3}))
    assert cli.main(["network", "--config", str(tmp_path / "toy.json")]) == 1
    assert "stepz" in capsys.readouterr().err
