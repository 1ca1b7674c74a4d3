# SPDX-License-Identifier: GPL-3.0-or-later
"""The released checkpoint's names and shapes, both spellings, and what a wrong checkpoint is told."""

from hashlib import sha256

import pytest
import torch
from diffusers import SanaWMTransformer3DModel
from safetensors.torch import save_file

from backend.models.stage1 import Stage1Config, Stage1Transformer, load

SMALL = Stage1Config(
    in_channels=8,
    out_channels=8,
    num_layers=4,
    hidden_size=48,
    head_dim=24,
    num_cross_heads=4,
    caption_channels=20,
)


TRAINING_BUFFERS = {"pos_embed": torch.zeros(1, 4, 48), "y_embedder.y_embedding": torch.zeros(7, 20)}


def original_spelling(entries: dict) -> dict:
    """Names as the original release has them, with the two buffers of its training code."""
    renamed = {
        name.replace("t_embedder.linear_1", "t_embedder.mlp.0").replace(
            "t_embedder.linear_2", "t_embedder.mlp.2"
        ): value
        for name, value in entries.items()
    }
    return {**renamed, **TRAINING_BUFFERS}


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    model = Stage1Transformer(SMALL)
    return {name: torch.randn_like(value) for name, value in model.state_dict().items()}


# SHA-256 of the released model's 870 lines "name shape", sorted, in both spellings.
RELEASED = {
    "diffusers": "d9f4fd0f6f9e60a2a3869f2f8c48dab9fc641b3cb4266ed007f8b7a75ed6305e",
    "original": "d438327ee7e40484a7ecc770575a2e069f3f78007750da8f99a73fe2ea86cd36",
}


def digest(shapes: dict[str, tuple[int, ...]]) -> str:
    return sha256("\n".join(f"{name} {shape}" for name, shape in sorted(shapes.items())).encode()).hexdigest()


def test_released_names_and_shapes():
    with torch.device("meta"):
        reference = SanaWMTransformer3DModel()
        ours = Stage1Transformer(Stage1Config.from_diffusers(dict(reference.config)))
    expected = {name: tuple(value.shape) for name, value in reference.state_dict().items()}
    assert len(expected) == 870
    shapes = {name: tuple(value.shape) for name, value in ours.state_dict().items()}
    assert shapes == expected
    assert digest(shapes) == RELEASED["diffusers"]
    original = original_spelling(shapes)
    assert (
        digest({name: original[name] for name in original if name not in TRAINING_BUFFERS})
        == RELEASED["original"]
    )
    assert sum(parameter.numel() for parameter in ours.parameters()) == 2_661_800_448


@pytest.mark.parametrize("wrapper", ["", "model.", "state_dict.", "generator.model."])
@pytest.mark.parametrize("spelling", [dict, original_spelling])
def test_both_spellings_load_exactly(state, tmp_path, spelling, wrapper):
    file = tmp_path / "model.safetensors"
    save_file({wrapper + name: value for name, value in spelling(state).items()}, file)
    loaded = load(file, SMALL).state_dict()
    assert loaded.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(loaded[name], value), name


def test_shards_and_cast(state, tmp_path):
    names = sorted(state)
    save_file({name: state[name] for name in names[::2]}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({name: state[name] for name in names[1::2]}, tmp_path / "model-00002-of-00002.safetensors")
    loaded = load(tmp_path, SMALL, dtype=torch.bfloat16).state_dict()
    for name, value in state.items():
        in_fp32 = name.endswith(("A_log", "dt_bias", "norm.weight", "norm_cam.weight"))
        expected = value if in_fp32 else value.bfloat16()
        assert loaded[name].dtype == expected.dtype and torch.equal(loaded[name], expected), name


def test_every_fault_is_named_at_once(state):
    del state["blocks.1.attn.conv_k.weight"]
    state["blocks.1.attn.conv_q.weight"] = torch.zeros(48, 1, 4)
    state["final_layer.linear.bias"] = torch.zeros(9)
    with pytest.raises(ValueError) as caught:
        load(state, SMALL)
    message = str(caught.value)
    assert "1 missing (blocks.1.attn.conv_k.weight)" in message
    assert "1 unknown (blocks.1.attn.conv_q.weight)" in message
    assert "final_layer.linear.bias (9,) instead of (8,)" in message


def test_no_checkpoint_is_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint .* of the stage-1 model"):
        load(tmp_path / "absent.safetensors", SMALL)


def test_config_of_another_architecture_is_refused():
    with pytest.raises(ValueError, match="patch_size"):
        Stage1Config.from_diffusers({"patch_size": [1, 2, 2]})
    with pytest.raises(ValueError, match="conv_wheels"):
        Stage1Config.from_diffusers({"conv_wheels": 4})


def test_a_new_model_trains_every_parameter_that_acts():
    torch.manual_seed(0)
    model = Stage1Transformer(SMALL)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    grid = (3, 3, 4)
    inputs = (
        torch.randn(2, 8, *grid), torch.tensor([[[0.0, 500.0, 500.0]]]).expand(2, 1, 3), torch.randn(2, 1, 5, 20),
        torch.ones(2, 5), torch.cat([torch.eye(4).flatten(), torch.tensor([4.0, 4.0, 2.0, 1.5])]).expand(2, 3, 20),
        torch.randn(2, 48, *grid),
    )  # fmt: skip
    for _ in range(3):
        optimizer.zero_grad()
        (model(*inputs) - inputs[0]).square().mean().backward()
        optimizer.step()
    # Named in the checkpoint but dead in the released forward pass.
    dead = ("raymap_embedder.",) + tuple(
        f"blocks.3.attn.{name}" for name in ("beta_proj.", "gate_proj.", "A_log", "dt_bias")
    )
    still = [
        name
        for name, parameter in model.named_parameters()
        if not name.startswith(dead) and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]
    assert still == []
