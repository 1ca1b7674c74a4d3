# SPDX-License-Identifier: GPL-3.0-or-later
"""An adapter is trained, saved, run live and merged: the same velocity each time."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.__main__ import main
from backend.models.stage1 import load
from backend.training.checkpoint import TrainingState
from backend.training.flow_matching import FlowMatching, FlowMatchingSettings
from backend.training.loop import CHECKPOINT
from backend.training.lora import LoraSettings, adapt
from backend.training.stage1_config import ModelSettings, Stage1Run
from backend.training.stage1_data import Data
from backend.training.stage1_training import ADAPTER, new_model, train
from tests.stage1_inputs import randomize
from tests.training.tiny_clips import TinyClips, tiny_model

SWITCHES = {"softmax_in_bf16": False}
LORA = LoraSettings(rank=3, alpha=6.0)


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """A weights folder with a stage 1."""
    folder = tmp_path_factory.mktemp("weights")
    base = tiny_model()
    randomize(base, 5)
    part = folder / "SANA-WM_bidirectional" / "dit"
    part.mkdir(parents=True)
    spelled = {
        name.replace("t_embedder.linear_1", "t_embedder.mlp.0"): w for name, w in base.state_dict().items()
    }
    save_file(spelled, part / "sana_wm_1600m_720p.safetensors")
    return folder


@pytest.fixture(scope="module")
def trained(release, tmp_path_factory) -> Stage1Run:
    """A run that has ended, with its adapter."""
    checkpoint = next(release.rglob("*.safetensors"))
    config = Stage1Run(
        folder=str(tmp_path_factory.mktemp("run")), data="", seed=1, steps=6, batch_clips=2, learning_rate=2e-2,
        evaluate_every=3, model=ModelSettings(str(checkpoint), SWITCHES), warm_up_steps=1, ema=0.5, figure_clips=1,
        recipe=FlowMatchingSettings(shift=3.0, sample_steps=2), lora=LORA,
    )  # fmt: skip
    clips = TinyClips()
    list(train("flow_matching", config, Data(clips, clips), until_step=3))
    list(train("flow_matching", config, Data(clips, clips)))
    return config


@torch.no_grad()
def velocity(model) -> torch.Tensor:
    clip = TinyClips().clip(0)
    timesteps = torch.full((1, 1, clip.frames), 500.0)
    return model.eval()(clip.latents, timesteps, clip.text, clip.text_mask, clip.camera, clip.plucker)


def averaged(config: Stage1Run) -> torch.Tensor:
    """Of the model as it was trained, from its checkpoint."""
    model = new_model(config.model, config.seed)
    adapt(model, config.lora)
    state = TrainingState(FlowMatching(model, config.recipe).trained, config)
    state.resume(Path(config.folder) / CHECKPOINT)
    return velocity(state.averaged_model())


def test_trained_live_and_merged_are_the_same(trained, release, tmp_path, capsys):
    adapter = Path(trained.folder) / ADAPTER
    base = load(trained.model.checkpoint, SWITCHES)
    live = velocity(load(trained.model.checkpoint, SWITCHES, adapter=adapter))
    expected = averaged(trained)
    assert (expected - velocity(base)).abs().max() > 1e-3, "the training changed nothing"
    assert torch.allclose(live, expected, atol=1e-5)
    target = tmp_path / "merged"
    words = ["merge", "stage1_bidirectional", "--lora", adapter, "--target", target, "--weights", release]
    assert main(["weights", *map(str, words)]) == 0
    assert "5 linears are changed" in capsys.readouterr().out
    merged = next(target.rglob("*.safetensors"))
    assert torch.allclose(velocity(load(merged, SWITCHES)), expected, atol=1e-5)
    half = velocity(load(trained.model.checkpoint, SWITCHES, adapter=adapter, strength=0.5))
    assert not torch.allclose(half, live, atol=1e-4) and not torch.allclose(half, velocity(base), atol=1e-4)


def test_a_checkpoint_of_an_adapter_has_no_weights_of_the_model(trained):
    kept = [name for name in load_file(Path(trained.folder) / CHECKPOINT) if name.startswith("weights.")]
    assert len(kept) == 10 and all(".lora_" in name for name in kept)


def test_an_adapter_of_another_model_is_refused(trained, tmp_path):
    name = "blocks.0.attn.qkv.lora_{}.weight"
    factors = {name.format("A"): torch.zeros(2, 5), name.format("B"): torch.zeros(7, 2)}
    save_file(factors, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="the stage-1 model has it as"):
        load(trained.model.checkpoint, SWITCHES, adapter=tmp_path / "a.safetensors")
