# SPDX-License-Identifier: GPL-3.0-or-later
"""The streaming release's training checkpoint: converted once, exactly, without running what it holds."""

import json
import os
import shutil
from collections import defaultdict
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from backend.models.stage1 import Stage1Config, Stage1Transformer, load
from backend.weights import cli
from backend.weights.streaming_release import convert_training_checkpoint, recorded_steps, steps_to_take
from tests.stage1_reference import TINY, camera_poses, randn, randomize

CONFIG = Stage1Config.from_diffusers(TINY)
STEPS = [1000, 960, 889, 727, 0]
FP32_STORED = ("A_log", "dt_bias", "norm.weight", "norm_cam.weight", "scale_shift_table")


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    model = Stage1Transformer(CONFIG)
    randomize(model, seed=5)
    return model.state_dict()


def training_checkpoint(weights: dict, **beside) -> dict:
    """The released layout: original spelling, prefix and dead buffers in the generator, the training around it."""
    generator = {
        "model."
        + name.replace("t_embedder.linear_1", "t_embedder.mlp.0").replace(
            "t_embedder.linear_2", "t_embedder.mlp.2"
        ): value
        for name, value in weights.items()
    }
    generator["model.pos_embed"] = torch.zeros(1, 4, 48)
    generator["model.y_embedder.y_embedding"] = torch.zeros(7, 20)
    critic = {name: value + 1 for name, value in generator.items()}
    optimizer = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": randn((9, 9), 1)}},
        "param_groups": [{"lr": 1e-5}],
    }
    return {
        "critic": critic, "generator": generator, "generator_optimizer": optimizer, "critic_optimizer": optimizer,
        "step": 3000, **beside,
    }  # fmt: skip


@pytest.fixture
def source(weights, tmp_path) -> Path:
    path = tmp_path / "model.pt"
    torch.save(training_checkpoint(weights, denoising_step_list=STEPS), path)
    return path


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "stage1.safetensors"


def assert_converted(target: Path, weights: dict) -> None:
    stored = load_file(target)
    assert stored.keys() == weights.keys()
    for name, value in weights.items():
        expected = value if name.endswith(FP32_STORED) else value.bfloat16()
        assert stored[name].dtype == expected.dtype, name
        assert torch.equal(stored[name], expected), name


def test_generator_is_converted_and_its_origin_recorded(weights, source, target):
    assert convert_training_checkpoint(source, target)
    assert_converted(target, weights)
    with safe_open(target, "pt") as archive:
        metadata = archive.metadata()
    assert metadata["source"] == "model.pt"
    assert metadata["source_size"] == str(source.stat().st_size)
    assert metadata["source_sha256"] == sha256(source.read_bytes()).hexdigest()
    assert json.loads(metadata["denoising_step_list"]) == STEPS
    assert sorted(source.parent.iterdir()) == [source, target]


@pytest.mark.parametrize("container", ["state_dict", "model", None])
def test_other_containers(weights, tmp_path, target, container):
    source = tmp_path / "model.pt"
    flat = {**weights, "pos_embed": torch.zeros(1)}
    steps = {"denoising_step_list": torch.tensor(STEPS)}
    torch.save({container: flat, **steps} if container else {**flat, **steps}, source)
    convert_training_checkpoint(source, target)
    assert_converted(target, weights)
    assert recorded_steps(target) == tuple(STEPS)


def test_bf16_views_of_one_storage(weights, tmp_path, target):
    """Sharded training saves parameters as views of a flat one."""
    storage = torch.cat([value.flatten() for value in weights.values()]).bfloat16()
    pieces = storage.split([value.numel() for value in weights.values()])
    views = {name: piece.view_as(weights[name]) for name, piece in zip(weights, pieces, strict=True)}
    torch.save({"generator": views}, tmp_path / "model.pt")
    convert_training_checkpoint(tmp_path / "model.pt", target)
    assert_converted(target, {name: value.bfloat16().float() for name, value in weights.items()})


def test_converted_file_loads_with_decay_and_norms_in_fp32(weights, source, target):
    convert_training_checkpoint(source, target)
    for name, value in load(target, CONFIG).state_dict().items():
        expected = weights[name] if name.endswith(FP32_STORED) else weights[name].bfloat16().float()
        assert torch.equal(value, expected), name
    for name, value in load(target, CONFIG, dtype=torch.bfloat16).state_dict().items():
        in_fp32 = name.endswith(FP32_STORED) and not name.endswith("scale_shift_table")
        expected = weights[name] if in_fp32 else weights[name].bfloat16()
        assert value.dtype == expected.dtype and torch.equal(value, expected), name


@pytest.mark.parametrize("gradients", [False, True])
def test_converted_file_runs_in_bf16(source, target, gradients):
    convert_training_checkpoint(source, target)
    grid = (3, 3, 4)
    inputs = (
        randn((1, 8, *grid), 1), torch.tensor([[[0.0, 500.0, 500.0]]]), randn((1, 1, 5, 20), 2), torch.ones(1, 5),
        camera_poses(grid), randn((1, 48, *grid), 3),
    )  # fmt: skip
    with torch.set_grad_enabled(gradients):
        exact = load(target, CONFIG)(*inputs)
        rounded = load(target, CONFIG, dtype=torch.bfloat16)(*inputs)
    assert rounded.dtype == torch.bfloat16
    error = (rounded.float() - exact).norm() / exact.norm()
    assert error < 0.05, f"velocity: relative error {error:.3g}"


@pytest.mark.parametrize(
    "saved, read",
    [
        (STEPS, (1000, 960, 889, 727, 0)),
        (STEPS[:-1], (1000, 960, 889, 727, 0)),
        (torch.tensor(STEPS), (1000, 960, 889, 727, 0)),
        (torch.tensor([1000, 967, 908.5]), (1000, 967, 908.5, 0)),
        ([torch.tensor(1000), 500.0], (1000, 500, 0)),
        (None, None),
    ],
)
def test_step_list_is_read_however_it_was_saved(weights, tmp_path, target, saved, read):
    beside = {} if saved is None else {"denoising_step_list": saved}
    torch.save({"generator": weights, **beside}, tmp_path / "model.pt")
    convert_training_checkpoint(tmp_path / "model.pt", target)
    assert recorded_steps(target) == read


@pytest.mark.parametrize(
    "steps", [[1.0, 0.96, 0.727, 0], [500, 900, 0], [1200, 0], [0], [], "fast", [1000, float("nan")]]
)
def test_strange_step_list_is_refused(weights, tmp_path, target, steps):
    torch.save({"generator": weights, "denoising_step_list": steps}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="model.pt carries the denoising steps"):
        convert_training_checkpoint(tmp_path / "model.pt", target)
    assert not target.exists()


def test_other_safetensors_carry_no_steps(weights, target):
    save_file(weights, target)
    assert recorded_steps(target) is None


def test_a_run_takes_the_steps_of_the_training_and_says_so():
    assert steps_to_take((1000.0, 960.0, 0.0), [1000, 960]) == ((1000.0, 960.0, 0.0), None)
    assert steps_to_take((1000.0, 888.8889, 0.0), [1000, 8000 / 9, 0])[1] is None
    assert steps_to_take(None, STEPS) == (tuple(STEPS), None)
    assert steps_to_take((1000, 967, 908, 764, 0), STEPS) == (
        (1000, 967, 908, 764, 0),
        "The weights were trained with the denoising steps 1000, 967, 908, 764, 0, and these are used; the preset "
        "has 1000, 960, 889, 727, 0.",
    )
    assert steps_to_take((1000, 500, 0), [1000, 500, 250, 0])[0] == (1000, 500, 0)


def test_conversion_from_the_command_line_reports_in_sentences(source, target, capsys, monkeypatch):
    assert cli.main(["convert", str(source), str(target)]) == 0
    assert "1000, 960, 889, 727, 0" in capsys.readouterr().out
    assert cli.main(["convert", str(source), str(target)]) == 0
    assert "up to date" in capsys.readouterr().out
    source.write_bytes(b"torn")
    assert cli.main(["convert", str(source), str(target)]) == 1
    assert "download it again" in capsys.readouterr().err
    assert cli.main(["convert", str(source.with_name("nothing.pt")), str(target)]) == 1
    assert "There is no training checkpoint" in capsys.readouterr().err


class RunsCode:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_class_is_refused_and_not_run(weights, tmp_path, source, target):
    trace = tmp_path / "trace"
    torch.save(training_checkpoint(weights, config=RunsCode(trace)), source)
    with pytest.raises(ValueError, match=rf"could run code: .* {os.mkdir.__module__}\.mkdir;"):
        convert_training_checkpoint(source, target)
    assert not trace.exists() and not target.exists()
    # A collection is no danger in itself; it is refused and named all the same.
    torch.save(training_checkpoint(weights, config=defaultdict(dict)), source)
    with pytest.raises(ValueError, match=r"could run code: .* collections\.defaultdict"):
        convert_training_checkpoint(source, target)


def test_faults_of_the_weights_are_named_at_once(weights, source, target):
    faulty = {
        **weights,
        "final_layer.linear.bias": torch.zeros(9),
        "blocks.1.attn.conv_q.weight": torch.zeros(48, 1, 4),
    }
    del faulty["blocks.1.attn.conv_k.weight"]
    torch.save(training_checkpoint(faulty), source)
    with pytest.raises(ValueError) as caught:
        convert_training_checkpoint(source, target)
    message = str(caught.value)
    assert "1 missing (blocks.1.attn.conv_k.weight)" in message
    assert "1 unknown (blocks.1.attn.conv_q.weight)" in message
    assert "final_layer.linear.bias (9,) instead of (8,)" in message
    assert not target.exists()


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_truncated_checkpoint(source, target, share):
    source.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
    with pytest.raises(ValueError, match=r"model\.pt cannot be read .* download it again"):
        convert_training_checkpoint(source, target)
    assert not target.exists()


def test_what_is_no_checkpoint(tmp_path, source, target):
    torch.save([1, 2], source)
    with pytest.raises(ValueError, match="holds a list instead of named weights"):
        convert_training_checkpoint(source, target)
    with pytest.raises(FileNotFoundError, match="no training checkpoint at"):
        convert_training_checkpoint(tmp_path / "absent.pt", target)


def test_conversion_is_repeated_only_for_another_source(weights, source, target):
    assert convert_training_checkpoint(source, target)
    written = target.stat().st_mtime_ns
    assert not convert_training_checkpoint(source, target)
    # A copy with a new time but the same content.
    os.utime(source, (1, 1))
    assert not convert_training_checkpoint(source, target)
    assert target.stat().st_mtime_ns == written

    changed = {**weights, "final_layer.linear.bias": weights["final_layer.linear.bias"] + 1}
    size = source.stat().st_size
    torch.save(training_checkpoint(changed, denoising_step_list=STEPS), source)
    assert source.stat().st_size == size
    assert convert_training_checkpoint(source, target)
    assert_converted(target, changed)


def test_a_foreign_or_damaged_target_is_replaced(weights, source, target):
    save_file(weights, target)
    assert convert_training_checkpoint(source, target)
    target.write_bytes(target.read_bytes()[:-1])
    assert convert_training_checkpoint(source, target)
    assert_converted(target, weights)


def test_interrupted_writing_leaves_the_folder_as_it_was(weights, source, target):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def convert_on_a_full_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            with pytest.raises(Exception, match="too large"):
                convert_training_checkpoint(source, target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    convert_on_a_full_disk()
    assert list(source.parent.iterdir()) == [source]

    # An earlier conversion survives.
    convert_training_checkpoint(source, target)
    torch.save(training_checkpoint({name: value + 1 for name, value in weights.items()}), source)
    convert_on_a_full_disk()
    assert_converted(target, weights)
    assert sorted(source.parent.iterdir()) == [source, target]

    # What a killed process left is no obstacle.
    left = target.with_name(target.name + ".partial")
    left.mkdir()
    shutil.copy(source, left / ".tmp1234")
    assert convert_training_checkpoint(source, target)
    assert sorted(source.parent.iterdir()) == [source, target]
