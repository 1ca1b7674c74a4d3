# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded model's long run, its tables of pictures and the student's gate, at toy size."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from backend.training import detail_recipe, picture_tables, student_gate
from backend.training.clip_files import ClipSet, project_missing
from backend.training.config import RecipeConfig
from backend.training.detail_clips import DetailClips, augmented, make_missing
from backend.training.scene_files import render_missing
from backend.weights.embedded import load_embedded
from tests.training.test_embedded_recipe import TOY

STEPS = 4


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RecipeConfig:
    """With data in place."""
    folder = tmp_path_factory.mktemp("detail")
    changes = {"scenes": 1, "filter_frames": 2, "steps": STEPS, "evaluate_every": 2}
    (folder / "toy.json").write_text(json.dumps({**TOY, **changes, "folder": "."}))
    made = RecipeConfig.load(folder / "toy.json")
    list(make_missing(made))
    return made


def elsewhere(config: RecipeConfig, folder) -> RecipeConfig:
    folder.mkdir()
    for name in ("train", "heldout"):
        (folder / name).symlink_to(f"{config.folder}/{name}")
    return dataclasses.replace(config, folder=str(folder))


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


def test_a_long_run_that_was_stopped_goes_on_exactly_where_it_was(config, tmp_path):
    whole, halves = (elsewhere(config, tmp_path / name) for name in ("whole", "halves"))
    list(detail_recipe.train(whole))
    # Stopped behind its last checkpoint.
    running = detail_recipe.train(halves, until_step=3)
    next(line for line in running if line.startswith("held-out"))
    running.close()
    list(detail_recipe.train(halves))
    models = [dict(detail_recipe.trained_model(run).named_parameters()) for run in (whole, halves)]
    for name, value in models[0].items():
        assert torch.equal(value, models[1][name]), f"{name} differs after a resumed run"
    figures = [(tmp_path / name / "losses.csv").read_text().splitlines() for name in ("whole", "halves")]
    losses = [[row.split(",")[1] for row in rows] for rows in figures]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS + 1


def test_the_table_of_pictures_puts_the_fill_above_the_first_frame_also_graded_and_painted(tmp_path):
    def nothing(example, first):
        return torch.zeros(3, 3, 8, 16), torch.zeros(3, 1, 8, 16)

    example = next(picture_tables.generated_scene(0, (96, 48)))
    rows = picture_tables.compared([dataclasses.replace(example, move="dolly out")], nothing, tmp_path)
    table = picture_tables.summary(rows)
    assert table["clips"] == 1
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


def test_the_weights_that_ship_are_no_student_in_one_step(config, tmp_path, monkeypatch):
    monkeypatch.setattr(student_gate, "FULL_STEPS", 8)
    longer = dataclasses.replace(config, folder=str(tmp_path), scenes=0, frames=49)
    list(render_missing(longer))
    list(project_missing(longer))
    clip, ships = ClipSet(longer, "heldout")[4], load_embedded()
    models = dict.fromkeys(("final", "teacher", "student"), ships)
    rows = list(student_gate.compared(models, [clip], (1000, 0)))
    far = rows[0]["to_full"]
    assert 0 < far[student_gate.FEW] < far[student_gate.STUDENT]
    result = student_gate.report(rows)
    assert not result["student"]["passed"] and result["clips"] == 1
    assert result["holes_db"]["guided fill"]["1.0"] != result["holes_db"]["student"]["1.0"]
