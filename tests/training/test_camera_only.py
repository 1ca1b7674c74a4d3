# SPDX-License-Identifier: GPL-3.0-or-later
"""The model that knows no geometry at toy size: data, training, resume, study."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from backend.models.vae import LinearCodec
from backend.training import camera_only, camera_study, cli
from backend.training.augment import mirrored
from backend.training.clip_files import ClipSet, project_missing
from backend.training.config import RecipeConfig
from backend.training.scene_files import render_missing
from tests.training.toy_recipe import TOY, configured, elsewhere


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RecipeConfig:
    """With data in place."""
    made = configured(tmp_path_factory.mktemp("camera_only"))
    list(render_missing(made))
    list(project_missing(made))
    return made


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


def test_wrong_settings_are_a_sentence(tmp_path, capsys):
    wrong = {**TOY, "frames": 10}
    (tmp_path / "toy.json").write_text(json.dumps(wrong))
    assert cli.main(["network", "--config", str(tmp_path / "toy.json")]) == 1
    assert "frames must be 8k + 1, not 10" in capsys.readouterr().err
    (tmp_path / "toy.json").write_text(json.dumps({**TOY, "stepz": 3}))
    assert cli.main(["network", "--config", str(tmp_path / "toy.json")]) == 1
    assert "stepz" in capsys.readouterr().err
