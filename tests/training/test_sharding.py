# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop in several processes, weights sharded: the losses and weights of one process, and exact resume."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from backend.training.batch import ClipSamples
from backend.training.checkpoint import TrainingState
from backend.training.flow_matching import FlowMatchingSettings
from backend.training.loop import Progress, run
from backend.training.self_forcing import SelfForcing, SelfForcingSettings
from backend.training.sharding import processes, shard
from backend.training.stage1_config import ModelSettings, ParallelSettings, Stage1Run
from backend.training.stage1_data import Data
from backend.training.stage1_training import WEIGHTS, looked_at, train
from tests.training.ranks import run_ranks
from tests.training.tiny_clips import ARCHITECTURE, TinyClips, tiny_model


def run_of(folder: Path, recipe, **changes) -> Stage1Run:
    return Stage1Run(
        folder=str(folder), data="", seed=4, steps=4, batch_clips=1, learning_rate=2e-3, evaluate_every=2,
        model=ModelSettings("", {**ARCHITECTURE, "num_layers": 2, "softmax_every_n": 2}), warm_up_steps=1, ema=0.9,
        figure_clips=1, recipe=recipe, **changes,
    )  # fmt: skip


FLOW = FlowMatchingSettings(shift=3.0, sample_steps=2)
DMD = SelfForcingSettings(real_score="", step_list=(1000, 727, 0), generator_every=2, window=1, sink=False)


def flow_run(rank: int, config: Stage1Run, until: int) -> list[float]:
    clips = TinyClips()
    reports = train("flow_matching", config, Data(clips, clips), until_step=until)
    return [report.loss for report in reports if isinstance(report, Progress)]


def self_forcing_run(rank: int, config: Stage1Run) -> list[float]:
    clips = TinyClips()
    with processes(config.parallel, "cpu") as (ranks, mesh, _):
        models = [tiny_model(seed) for seed in (1, 2, 3)]
        recipe = SelfForcing(*models, clips.no_text(), config.recipe)
        for model in models if mesh is not None else []:
            shard(model, mesh, config.parallel)
        state = TrainingState(recipe.trained, config, recipe.rate_scales)
        reports = run(
            state, looked_at(recipe, clips, config, ranks=ranks), ClipSamples(clips), config, None, ranks
        )
        return [report.loss for report in reports if isinstance(report, Progress)]


def test_two_processes_that_share_frames_equal_one(tmp_path):
    """Stopped in between, too."""
    alone = run_of(tmp_path / "alone", FLOW)
    expected = flow_run(0, alone, 4)
    shared = run_of(tmp_path / "two", FLOW, parallel=ParallelSettings(context_ranks=2, recompute=True))
    begun, continued = (run_ranks(flow_run, 2, shared, until) for until in (2, 4))
    for first, second in zip(begun, continued, strict=True):
        assert first + second == pytest.approx(expected, rel=1e-4)
    weights = [load_file(tmp_path / name / WEIGHTS) for name in ("alone", "two")]
    for name, value in weights[0].items():
        assert (weights[1][name] - value).abs().max() < 1e-4, name
    rows = (tmp_path / "two" / "losses.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2", "3", "4"]
    assert list((tmp_path / "two").glob("sheet_*.png"))


def test_self_forcing_in_two_processes_equals_one(tmp_path):
    expected = self_forcing_run(0, run_of(tmp_path / "alone", DMD, accumulate=2))
    for losses in run_ranks(self_forcing_run, 2, run_of(tmp_path / "two", DMD)):
        assert losses == pytest.approx(expected, rel=1e-4)


def test_a_process_by_itself_computes_in_bf16_with_fp32_weights(tmp_path):
    config = run_of(tmp_path, FLOW, parallel=ParallelSettings(precision="bf16"))
    losses = run_ranks(flow_run, 1, dataclasses.replace(config, steps=2), 2)[0]
    plain = flow_run(0, run_of(tmp_path / "plain", FLOW), 2)
    assert losses == pytest.approx(plain, rel=0.05) and losses != plain
    weights = load_file(tmp_path / WEIGHTS)
    assert {value.dtype for value in weights.values()} == {torch.float32}
