# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded network in three variants: the recipes of stage 1 train it, and each has a network of its own."""

import csv
import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from backend.conditioning.camera import pixel_frames
from backend.films.embedded import EmbeddedModels
from backend.models.embedded import EmbeddedVelocity
from backend.protocol import Preset
from backend.sampling.chunk_grid import chunk_grid
from backend.training import cli
from backend.training.clip_files import ClipFolder
from backend.training.detail_clips import make_missing
from backend.training.embedded_clips import EmbeddedClips, hole_weights
from backend.weights.embedded import FILES, FOLDER, add_variant, file_hashes, load_embedded
from tests.training import toy_recipe

FRAMES = 49
STEPS = [1000, 960, 889, 727, 0]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with clips of two chunks."""
    folder = tmp_path_factory.mktemp("chunks")
    list(make_missing(toy_recipe.configured(folder, scenes=1, frames=FRAMES)))
    return folder


def configured(folder, clips, recipe, **changes):
    """A configuration of the network that ships, for two clips a step."""
    record = {
        "folder": "run",
        "data": str(clips),
        "seed": 3,
        "steps": 6,
        "batch_clips": 2,
        "learning_rate": 1e-3,
        "evaluate_every": 6,
        "figure_clips": 2,
        "model": {
            "checkpoint": str(FOLDER / "stage1.safetensors"),
            "embedded": True,
            "architecture": sizes(),
        },
        "recipe": recipe,
        **changes,
    }
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(record))
    return str(folder / "run.json")


def sizes():
    config = json.loads((FOLDER / "config.json").read_text())
    return {name: config[name] for name in ("hidden_size", "blocks", "mlp_ratio")}


def copied(folder):
    """The files that ship, without networks of other variants than the bidirectional one."""
    folder.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy(FOLDER / name, folder)
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "trained_variants": ["bidirectional"]}))
    return folder


def seen(clip, chunks):
    """The clip as the model that ships is conditioned on it."""
    model = load_embedded()
    return model, model.condition(clip.projection, clip.path, chunks)


def test_the_recipes_see_the_clip_and_the_network_as_the_product_does(clips):
    source = EmbeddedClips(clips / "heldout" / "coarse")
    batch = source.clip(2)
    chunks = chunk_grid(batch.frames)
    model, looked = seen(ClipFolder(clips / "heldout" / "coarse")[2], chunks)
    torch.testing.assert_close(batch.channels, looked.channels)
    network = EmbeddedVelocity(model.config.stage1)
    network.load_state_dict(model.stage1.state_dict())
    noisy = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(1))
    timesteps = torch.full((1, 1, batch.frames), 700.0)
    starts = tuple(chunk.start for chunk in chunks)
    own = batch.text, batch.text_mask, batch.camera, batch.plucker, starts
    with torch.no_grad():
        found = network(batch.inputs(noisy), timesteps, *own)
        wanted = model.velocity(noisy, timesteps, looked)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4, msg="velocity differs")


def test_errors_count_where_the_first_frame_shows_nothing(clips):
    clip = ClipFolder(clips / "heldout" / "coarse")[0].projection
    weights = hole_weights(clip)
    assert weights[:, :, 1:].mean() == pytest.approx(1, abs=1e-4)
    last = pixel_frames(slice(weights.shape[2] - 1, weights.shape[2]))
    shares = torch.nn.functional.avg_pool2d(clip.visible[last], 8).mean(0)[0]
    assert weights[0, 0, -1][shares < 0.5].min() > 10 * weights[0, 0, -1][shares > 0.95].max()


def test_all_recipes_train_the_network_and_their_results_become_its_variants(clips, tmp_path):
    teacher = configured(tmp_path / "teacher", clips, {"sample_steps": 2, "sigma_floor": 0.3})
    assert cli.main(["chunk_causal", "--config", teacher]) == 0
    averaged = tmp_path / "teacher" / "run" / "averaged.safetensors"
    from_teacher = {"checkpoint": str(averaged), "embedded": True, "architecture": sizes()}
    few = {"step_list": STEPS, "teacher_steps": 3, "teacher_guidance": 1}
    student = configured(tmp_path / "student", clips, few, model=from_teacher)
    assert cli.main(["trajectories", "--config", student]) == cli.main(["ode_init", "--config", student]) == 0
    matched = configured(
        tmp_path / "matched",
        clips,
        {
            "step_list": STEPS,
            "real_score": str(FOLDER / "stage1.safetensors"),
            "real_guidance": 1,
            "generator_every": 2,
            "sigma_floor": 0.3,
        },
        model={**from_teacher, "checkpoint": str(tmp_path / "student" / "run" / "averaged.safetensors")},
    )
    assert cli.main(["self_forcing", "--config", matched]) == 0
    losses = list(csv.DictReader((tmp_path / "matched" / "run" / "losses.csv").open()))
    assert all(np.isfinite(float(row["critic"])) for row in losses)

    weights = copied(tmp_path / "weights")
    for variant, run in (("chunk_causal", "teacher"), ("streaming", "matched")):
        file = str(tmp_path / run / "run" / "averaged.safetensors")
        assert cli.main(["export", "--variant", variant, file, "--to", str(weights)]) == 0
    model = load_embedded(folder=weights, variant="streaming")
    assert {"bidirectional", "chunk_causal", "streaming"} == set(model.config.trained_variants)
    trained = load_file(tmp_path / "matched" / "run" / "averaged.safetensors")
    name = "final_layer.linear.weight"
    torch.testing.assert_close(dict(model.stage1.named_parameters())[name], trained[name].half().float())
    hashes = {v: file_hashes(v, weights) for v in model.config.trained_variants}
    assert "stage1_streaming.safetensors" in hashes["streaming"]
    assert len({tuple(found.values()) for found in hashes.values()}) == 3


def test_four_clips_are_learnt_by_the_teacher(clips, tmp_path):
    """At a third of the noise the network that ships says next to nothing of the clip; 40 steps take a third of what
    it leaves in the holes."""
    record = {"sample_steps": 2, "sigma_floor": 0.3, "first_frame_share": 1.0}
    path = configured(
        tmp_path,
        clips,
        record,
        steps=40,
        batch_clips=4,
        evaluate_every=40,
        learning_rate=2e-3,
        warm_up_steps=5,
    )
    assert cli.main(["chunk_causal", "--config", path]) == 0
    losses = [float(row["loss"]) for row in csv.DictReader((tmp_path / "run" / "losses.csv").open())]
    assert np.mean(losses[-8:]) < 0.67 * np.mean(losses[:8]), losses


def test_a_network_of_other_sizes_is_refused_in_a_sentence(tmp_path, clips, capsys):
    copied(tmp_path)
    with pytest.raises(ValueError, match="other sizes than the one in"):
        add_variant({"x": torch.zeros(2)}, "streaming", tmp_path)
    assert cli.main(["export", "--variant", "final", "x", "--to", str(tmp_path)]) == 1
    assert "name chunk_causal or streaming" in capsys.readouterr().err
    wrong = {"embedded": True, "architecture": {"hidden_size": 64, "colour": 3}}
    assert cli.main(["chunk_causal", "--config", configured(tmp_path / "x", clips, {}, model=wrong)]) == 1
    assert "the embedded network does not fit" in capsys.readouterr().err


def test_a_preset_loads_the_network_of_its_variant(tmp_path, monkeypatch):
    copied(tmp_path)
    for function in (load_embedded, file_hashes):
        here = functools.partial(function, folder=tmp_path)
        monkeypatch.setattr(f"backend.films.embedded.{function.__name__}", here)
    preset = Preset("x", "x", "embedded", (640, 352), steps=1, guidance=1, network_blend=0.5)
    draft = dataclasses.replace(preset, variant="streaming", step_list=STEPS)
    warnings = EmbeddedModels.load(draft, "cpu").as_trained(draft)[1]
    assert [w for w in warnings if "streaming runs with them untrained" in w]
    network = {name: tensor + 0.01 for name, tensor in load_embedded().stage1.state_dict().items()}
    add_variant(network, "streaming", tmp_path)
    plain, streamed = (EmbeddedModels.load(wanted, "cpu") for wanted in (preset, draft))
    assert "stage1.safetensors" in plain.sha256 and "stage1_streaming.safetensors" in streamed.sha256
    pairs = zip(plain.network.stage1.parameters(), streamed.network.stage1.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)
    assert not streamed.as_trained(draft)[1], "a warning that the weights are not trained for it"
