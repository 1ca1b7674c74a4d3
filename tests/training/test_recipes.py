# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipes of stage 1 at toy size: each learns four clips, and goes on exactly where it was stopped."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.models.stage1 import load
from backend.sampling.chunk_grid import chunk_grid
from backend.sampling.flow_euler import sigma_schedule
from backend.training import cli
from backend.training.batch import Batch, ClipSamples
from backend.training.checkpoint import TrainingState
from backend.training.chunk_causal import ChunkCausalSettings, sample_in_chunks
from backend.training.clip_files import project_missing
from backend.training.config import RecipeConfig
from backend.training.flow_matching import FlowMatching, FlowMatchingSettings, flow_loss
from backend.training.loop import CHECKPOINT, Progress, Recipe, run
from backend.training.lora import LoraSettings
from backend.training.noise import Mixture, Noised, mixed_levels
from backend.training.ode_init import OdeInitSettings
from backend.training.scene_files import render_missing
from backend.training.self_forcing import SelfForcing, SelfForcingSettings
from backend.training.stage1_config import ModelSettings, Stage1Run
from backend.training.stage1_data import Data
from backend.training.stage1_training import RECIPES as STAGE1_RECIPES
from backend.training.stage1_training import WEIGHTS, looked_at, train
from backend.training.trajectories import snapshots
from tests.stage1_inputs import randn
from tests.training.tiny_clips import ARCHITECTURE, CHANNELS, TinyClips, tiny_model
from tests.training.toy_recipe import TOY

ROOT = Path(__file__).parents[2]
CLIPS = TinyClips()


class StraightTrajectories(TinyClips):
    """With the trajectories of a perfect teacher, which knows that a prompt has one clip: straight lines to it."""

    def clip(self, index: int) -> Batch:
        clip = super().clip(index)
        noise = randn(clip.latents.shape, 50 + index)
        levels = [step / 1000 for step in OdeInitSettings().step_list]
        states = [torch.lerp(clip.latents, noise, level) for level in levels]
        return dataclasses.replace(clip, snapshots=torch.stack(states, dim=1))


class PerfectScore(torch.nn.Module):
    """The score of clips of which every prompt has one: away from it, by the noise level."""

    def __init__(self) -> None:
        super().__init__()
        self._known = Batch.joined([CLIPS.clip(index) for index in range(len(CLIPS))])

    def forward(self, noisy, timesteps, text, *_):
        clip = torch.cdist(text.flatten(1), self._known.text.flatten(1)).argmin(dim=1)
        return (noisy - self._known.latents[clip]) / (timesteps / 1000)[..., None, None].clamp(min=1e-3)


RECIPES = {
    "flow_matching": FlowMatchingSettings(shift=3.0, sample_steps=8),
    "chunk_causal": ChunkCausalSettings(shift=3.0, sample_steps=6),
    "ode_init": OdeInitSettings(),
    "self_forcing": SelfForcingSettings(
        "", (1000, 727, 0), generator_every=1, critic_rate_scale=1.0, score_shift=1.0, highest_timestep=400,
        real_guidance=1.0,
    ),
}  # fmt: skip


def config_of(folder: Path, name: str, **changes) -> Stage1Run:
    usual = {
        "folder": str(folder), "data": "", "seed": 3, "steps": 3, "batch_clips": 4, "learning_rate": 5e-3,
        "evaluate_every": 2, "model": ModelSettings("", ARCHITECTURE), "ema": 0.9, "warm_up_steps": 5,
        "flat_share": 0.5, "weight_decay": 0.0, "recipe": RECIPES[name],
    }  # fmt: skip
    if name == "self_forcing":
        usual["betas"] = (0.5, 0.99)
    return Stage1Run(**usual | changes)


def reports_of(name: str, config: Stage1Run, until: int | None = None):
    if name != "self_forcing":
        clips = StraightTrajectories() if name == "ode_init" else CLIPS
        yield from train(name, config, Data(clips, clips), until_step=until)
        return
    recipe = SelfForcing(tiny_model(1), tiny_model(2), PerfectScore(), CLIPS.no_text(), config.recipe)
    state = TrainingState(recipe.trained, config, recipe.rate_scales)
    yield from run(state, looked_at(recipe, CLIPS, config), ClipSamples(CLIPS), config, until)


def last_figures(folder: Path) -> dict[str, float]:
    names, *rows = (line.split(",") for line in (folder / "curve.csv").read_text().splitlines())
    return dict(zip(names, map(float, rows[-1]), strict=True))


def best_constant(figure: str, name: str) -> float:
    """Mean square error of who knows the four clips and not which one is asked for: the clips' variance; of the
    velocity the noise's, which is 1, beside it."""
    clips = Batch.joined([CLIPS.clip(index) for index in range(len(CLIPS))]).latents[:, :, 1:]
    variance = float((clips - clips.mean(dim=0)).square().mean())
    return variance + (figure == "loss" and name != "ode_init")


# Steps, a figure of the four clips, and the share of the best constant's that it has to come below. Trajectories have
# their own noise, so there the loss counts.
FLOORS = {
    "flow_matching": (60, "sample_error", 0.2),
    "chunk_causal": (60, "sample_error", 0.3),
    "ode_init": (40, "loss", 0.1),
    "self_forcing": (40, "sample_error", 0.5),
}


@pytest.mark.parametrize("name", FLOORS)
def test_four_clips_are_learnt(name, tmp_path):
    steps, figure, share = FLOORS[name]
    list(reports_of(name, config_of(tmp_path, name, steps=steps, evaluate_every=steps)))
    found = last_figures(tmp_path)
    assert found[figure] < share * best_constant(figure, name), found
    assert len(list(tmp_path.glob("sheet_*.png"))) == 1


def test_an_adapter_learns_four_clips_that_its_model_does_not_know(tmp_path):
    others = TinyClips(first=4)
    base = config_of(tmp_path / "base", "flow_matching", steps=40, evaluate_every=40)
    list(train("flow_matching", base, Data(others, others)))
    start = ModelSettings(str(tmp_path / "base" / WEIGHTS), {"softmax_in_bf16": False})
    config = config_of(
        tmp_path / "adapter", "flow_matching", steps=60, evaluate_every=60, learning_rate=2e-2, model=start,
        lora=LoraSettings(rank=8, alpha=8),
    )  # fmt: skip
    list(train("flow_matching", config, Data(CLIPS, CLIPS)))
    constant = best_constant("loss", "flow_matching")
    with torch.no_grad():
        unknown = flow_error(load(start.checkpoint, start.architecture))
    assert last_figures(tmp_path / "adapter")["loss"] < min(constant, unknown) / 3


def flow_error(model) -> float:
    """Of the four clips, at the noise levels of the recipe."""
    batch = Batch.joined([CLIPS.clip(index) for index in range(len(CLIPS))])
    loss = FlowMatching(model.eval(), RECIPES["flow_matching"]).losses(1)["loss"]
    return float(loss(batch, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("name", FLOORS)
def test_a_run_that_ends_without_warning_has_the_same_ten_losses_afterwards(name, tmp_path):
    """It ends between two checkpoints, and what it wrote behind the last one is taken back."""
    cheaper = {"generator_every": 5} if name == "self_forcing" else {"sample_steps": 1}
    recipe = RECIPES[name] if name == "ode_init" else dataclasses.replace(RECIPES[name], **cheaper)
    changes = {"steps": 13, "batch_clips": 1, "evaluate_every": 3, "figure_clips": 1, "recipe": recipe}
    whole, ended = (config_of(tmp_path / part, name, **changes) for part in ("whole", "ended"))
    list(reports_of(name, whole))
    for report in reports_of(name, ended):
        if isinstance(report, Progress) and report.step == 5:
            break
    assert len((tmp_path / "ended" / "losses.csv").read_text().splitlines()) == 6
    list(reports_of(name, ended))
    tables = [list(csv.DictReader((tmp_path / part / "losses.csv").open())) for part in ("whole", "ended")]
    for rows in tables:
        assert len(rows) == 13 and all(row.pop("samples_per_s") for row in rows)
    assert tables[0] == tables[1], "the losses, digit for digit"
    kept = [load_file(Path(run.folder) / CHECKPOINT) for run in (whole, ended)]
    for tensor, value in kept[0].items():
        if tensor != "progress.cpu_s":
            assert torch.equal(value, kept[1][tensor]), tensor


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    """A folder with rendered clips in two parts."""
    folder = tmp_path_factory.mktemp("rendered")
    small = {**TOY, "folder": ".", "scenes": 1, "moves_per_scene": 3}
    (folder / "data.json").write_text(json.dumps(small))
    made = RecipeConfig.load(folder / "data.json")
    list(render_missing(made))
    list(project_missing(made))
    return folder


def written(folder: Path, rendered: Path, **changes) -> Path:
    record = {
        "folder": "run", "data": str(rendered), "seed": 2, "steps": 16, "batch_clips": 1, "learning_rate": 1e-3,
        "evaluate_every": 5, "figure_clips": 1, "recipe": {"sample_steps": 2},
        "model": {"architecture": {**ARCHITECTURE, "in_channels": 128, "out_channels": 128}},
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(record | changes))
    return folder / "config.json"


def test_accumulated_passes_are_one_large_batch(tmp_path):
    """Down to the weights, with noise that belongs to the clip, and frames that are given in some clips only."""
    model_config = config_of(
        tmp_path, "flow_matching", steps=3, evaluate_every=3, weight_decay=0.1, clip_norm=0.5
    )
    sigmas = torch.rand(4, CLIPS.clip(0).frames, generator=torch.Generator().manual_seed(8)).round(decimals=3)
    sigmas[:2, :3] = 0

    def loss(batch: Batch, _) -> torch.Tensor:
        known = torch.cat([CLIPS.clip(index).text.flatten(1) for index in range(4)])
        sigma = sigmas[torch.cdist(batch.text.flatten(1), known).argmin(dim=1)]
        noise = batch.snapshots[:, 0]
        drawn = Noised(torch.lerp(batch.latents, noise, sigma[:, None, :, None, None]), noise, sigma)
        return flow_loss(model, batch, drawn)

    tables = []
    for name, clips, passes in (("one", 4, 1), ("four", 1, 4)):
        folder = str(tmp_path / name)
        config = dataclasses.replace(model_config, folder=folder, batch_clips=clips, accumulate=passes)
        model = tiny_model(5)
        recipe = Recipe(lambda step: {"loss": loss}, lambda averaged: {"none": 0.0})
        list(run(TrainingState(model, config), recipe, ClipSamples(StraightTrajectories()), config))
        tables.append((list(csv.DictReader(open(f"{folder}/losses.csv"))), model.state_dict()))
    for one, four in zip(tables[0][0], tables[1][0], strict=True):
        for column in ("loss", "loss_gradient_norm"):
            assert (
                float(four[column]) == pytest.approx(float(one[column]), rel=1e-4)
                and float(one[column]) > 0.1
            )
    for name, value in tables[0][1].items():
        torch.testing.assert_close(tables[1][1][name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_its_batch(tmp_path):
    config = config_of(tmp_path, "flow_matching", batch_clips=1, steps=4, evaluate_every=1, figure_clips=1)
    third = int(torch.randperm(4, generator=torch.Generator().manual_seed(config.seed))[2])

    class Broken(TinyClips):
        def clip(self, index):
            clip = super().clip(index)
            return dataclasses.replace(clip, latents=clip.latents * float("nan")) if index == third else clip

    with pytest.raises(
        FloatingPointError,
        match=r"step 3 has a loss of nan .*not finite \(latents\).*batch is in .*safetensors",
    ):
        list(train("flow_matching", config, Data(Broken(), CLIPS)))
    (path,) = tmp_path.glob("not_finite_*.safetensors")
    kept = load_file(path)
    assert kept["0.latents"].isnan().all() and kept["0.text"].isfinite().all() and kept["0.clips"] == third
    assert all(value.isfinite().all() for value in load_file(tmp_path / CHECKPOINT).values())
    wild = config_of(
        tmp_path / "wild", "flow_matching", steps=9, learning_rate=1e30, figure_clips=1, evaluate_every=9
    )
    with pytest.raises(FloatingPointError, match="Its clips are finite; lower learning_rate"):
        list(train("flow_matching", wild, Data(CLIPS, CLIPS)))


def test_noise_levels_of_chunks_stand_as_the_mixture_says():
    chunks = chunk_grid(16)
    ends = [chunk.stop - 1 for chunk in chunks]
    generator = torch.Generator().manual_seed(1)
    for name in ("same", "incremental", "last_anchor", "clean"):
        only = Mixture(**{way: float(way == name) for way in ("same", "incremental", "last_anchor", "clean")})
        levels = mixed_levels(500, chunks, only, generator)
        assert levels.shape == (500, 16)
        for chunk in chunks:
            assert (levels[:, chunk] == levels[:, chunk.start : chunk.start + 1]).all(), (
                f"{name}: one level a chunk"
            )
        steps = levels[:, ends].diff(dim=1)
        last = levels[:, -1].mean()
        if name == "same":
            assert (steps == 0).all()
        elif name == "clean":
            assert (levels[:, : chunks[-1].start] == 0).all() and last == pytest.approx(0.5, abs=0.05)
        else:
            assert (steps >= 0).all() and (steps > 0).any()
            # The last chunk is noisier than a logit-normal level where it is not the anchor itself.
            assert last == pytest.approx(0.5, abs=0.05) if name == "last_anchor" else last > 0.65
    with pytest.raises(ValueError, match="sum up to 1"):
        Mixture(same=0.5)


def test_snapshots_are_states_of_the_teachers_trajectory():
    teacher, batch = tiny_model().eval(), CLIPS.clip(0)
    torch.nn.init.normal_(teacher.final_layer.linear.weight, std=0.1)
    steps = (1000, 900, 600, 0)
    kept = snapshots(teacher, batch, steps, 5, 1.0, None, torch.Generator().manual_seed(4))
    sigmas = sorted({*sigma_schedule(5), *torch.tensor([0.9, 0.6]).tolist()}, reverse=True)
    with torch.no_grad():
        made = sample_in_chunks(teacher, batch, sigmas, torch.Generator().manual_seed(4))
    assert torch.allclose(kept[:, -1], made, atol=1e-5)
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(4))
    assert torch.equal(kept[:, 0, :, 1:], noise[:, :, 1:])
    assert torch.equal(kept[:, :, :, 0], batch.latents[:, None, :, 0].expand(-1, 4, -1, -1, -1))
    between = [(kept[:, number] - made)[:, :, 1:].abs().mean() for number in range(4)]
    assert between[0] > between[1] > between[2] > between[3] == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stepz": 3}, "unknown entries: stepz"),
        ({"recipe": {"shft": 3}}, "section recipe has unknown entries: shft"),
        ({"parallel": {"ranks": 2}}, "section parallel has unknown entries: ranks"),
        ({"steps": "many"}, "steps must be a whole number"),
        ({"data": "nowhere"}, "There are no clips in"),
        ({"model": {"architecture": ARCHITECTURE}}, "128 latent channels"),
        ({"parallel": {"context_ranks": 2}}, "cannot be divided into groups of 2"),
        ({"lora": {"targets": ["attn.nothing"]}}, "no linear of stage 1's blocks"),
    ],
)
def test_wrong_settings_are_a_sentence(changes, sentence, rendered, tmp_path, capsys):
    path = written(tmp_path, rendered, **changes)
    assert cli.main(["flow_matching", "--config", str(path)]) == 1
    assert sentence in capsys.readouterr().err


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    save_file({"weights.other": torch.zeros(CHANNELS)}, tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match="is of another model"):
        list(reports_of("flow_matching", config_of(tmp_path, "flow_matching")))
    (tmp_path / CHECKPOINT).write_bytes(b"half of a file")
    with pytest.raises(ValueError, match="is damaged"):
        list(reports_of("flow_matching", config_of(tmp_path, "flow_matching")))


def test_a_student_without_its_teachers_trajectories_is_told_how_to_make_them(rendered, tmp_path, capsys):
    path = written(tmp_path, rendered, recipe={})
    assert cli.main(["ode_init", "--config", str(path)]) == 1
    assert "python -m backend train trajectories" in capsys.readouterr().err


CONFIGS = ROOT / "backend" / "training" / "configs"
EMBEDDED = [CONFIGS / f"embedded_{name}.json" for name in ("chunk_causal", "ode_init", "self_forcing")]
SHIPPED = [*sorted(CONFIGS.glob("*_gpus.json")), CONFIGS / "stage1_small_flow_matching.json", *EMBEDDED]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_configurations_that_ship_are_read(path):
    name = next(name for name in STAGE1_RECIPES if name in path.stem)
    config = Stage1Run.load(path, STAGE1_RECIPES[name].settings_type)
    assert config.steps > 0
    if path.stem.endswith("_gpus"):
        count = int(path.stem.split("_")[-2])
        replicas = count // config.parallel.context_ranks
        assert replicas * config.accumulate * config.batch_clips == 64, (
            "clips of a step, as docs/training.md says"
        )


@pytest.mark.parametrize(
    "path", sorted(set(CONFIGS.glob("*.json")) - set(SHIPPED)), ids=lambda path: path.stem
)
def test_configurations_of_the_small_models_are_read(path):
    assert RecipeConfig.load(path).frames % 8 == 1
