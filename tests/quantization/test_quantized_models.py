# SPDX-License-Identifier: GPL-3.0-or-later
"""Which linears are quantised, how near the models stay, and that nothing else changes, streamed or not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from backend.models.refiner import RefinerConfig, RefinerRun, RefinerTransformer, load_refiner
from backend.models.stage1 import Stage1Config, Stage1Transformer, load
from backend.models.stage1.layers import PointwiseConv
from backend.quantization.linear import QuantizedLinear, in_words
from backend.quantization.loading import quantize_linears
from backend.quantization.quantize import quantize_checkpoint
from backend.quantization.recipe import REFINER, STAGE1
from tests.miniature_release import STAGE1 as CONFIG
from tests.miniature_release import original_names, stage1_weights
from tests.refiner_reference import CAPTION, CHANNELS, write_refiner
from tests.stage1_reference import camera_poses, randn

GRID = (4, 3, 5)
# What may lie between a quantised miniature and the one in fp32, of its norm. Bf16 lies 0.9 % away.
BANDS = {
    ("nvfp4", "weight only"): (0.05, 0.12),
    ("nvfp4", "native"): (0.08, 0.16),
    ("fp8", "weight only"): (0.01, 0.04),
    ("fp8", "native"): (0.015, 0.05),
}
FORMATS = ("nvfp4", "fp8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The plain miniatures and both quantised ones of each."""
    root = tmp_path_factory.mktemp("weights")
    save_file(original_names(stage1_weights(1)), root / "stage1.safetensors")
    write_refiner(root / "refiner")
    for format in FORMATS:
        quantize_checkpoint(
            root / "stage1.safetensors", root / f"stage1_{format}", format, "model.safetensors", False
        )
        quantize_checkpoint(root / "refiner", root / f"refiner_{format}", format, "model.safetensors", True)
    return root


@torch.no_grad()
def predicted(model: Stage1Transformer, batch: int = 1, text: torch.Tensor | None = None, mask=None):
    text = randn((batch, 1, 6, CONFIG.caption_channels), 2) if text is None else text
    latents = randn((batch, CONFIG.in_channels, *GRID), 1)
    mask = torch.ones(batch, 6) if mask is None else mask
    timesteps = torch.full((batch, 1, GRID[0]), 700.0)
    return model(latents, timesteps, text, mask, camera_poses(GRID), randn((1, 48, *GRID), 3)).float()


@torch.no_grad()
def refined(model: RefinerTransformer) -> torch.Tensor:
    run = RefinerRun(model, randn((1, 8, CAPTION), 3), (2, 3), 4)
    latents = randn((1, CHANNELS, 4, 2, 3), 5)
    run.begin(latents[:, :, :1])
    run.place(slice(1, 4))
    return run.velocity(latents[:, :, 1:], 0.7).float()


def go(model: nn.Module, way: str | None) -> nn.Module:
    for module in model.modules():
        if isinstance(module, QuantizedLinear):
            module.way = way
    return model


def relative_error(got, expected):
    return ((got - expected).norm() / expected.norm()).item()


def raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.uint8) if tensor.dtype == torch.float8_e4m3fn else tensor


@pytest.mark.parametrize(
    ("make", "recipe", "parameters", "linears"),
    [
        (lambda: Stage1Transformer(Stage1Config()), STAGE1, 1_806_336_000, 8 * 20),
        (lambda: RefinerTransformer(RefinerConfig()), REFINER, 12_884_901_888, 10 * 48),
    ],
    ids=["stage 1", "refiner"],
)
def test_of_the_released_models_the_listed_linears_are_replaced_and_nothing_else(
    make, recipe, parameters, linears
):
    with torch.device("meta"):
        plain, model = make(), make()
    entries = {name: (tuple(tensor.shape), None) for name, tensor in plain.state_dict().items()}
    entries = quantize_linears(model, entries, recipe, "nvfp4")
    assert {name: shape for name, (shape, _) in entries.items()} == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }
    before, after = dict(plain.named_modules()), dict(model.named_modules())
    replaced = [name for name, module in after.items() if isinstance(module, QuantizedLinear)]
    assert len(replaced) == linears
    assert sum(before[name].weight.numel() for name in replaced) == parameters
    assert all(type(before[name]) is type(after[name]) for name in before.keys() - set(replaced))
    others = [n for n, m in after.items() if isinstance(m, (nn.Linear, nn.Conv2d, PointwiseConv))]
    for kept in ("_cam", "beta_proj", "gate_proj", "plucker_proj", "depth_conv", "embedder", "proj_in"):
        assert not any(kept in name for name in replaced)
    assert others, "camera projections, gates and embedders stay"
    bits = 8 * sum(p.nbytes for n in replaced for e, p in after[n].named_parameters() if e != "bias")
    assert bits / parameters == pytest.approx(4.5, rel=0.01)


def test_sides_that_are_no_multiples_of_16_are_refused():
    config = Stage1Config(
        in_channels=4, out_channels=4, num_layers=1, hidden_size=40, head_dim=8, num_cross_heads=5
    )
    with torch.device("meta"):
        model = Stage1Transformer(config)
    entries = {name: (tuple(tensor.shape), None) for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="leads from 40 to 120 channels; only multiples of 16"):
        quantize_linears(model, entries, STAGE1, "nvfp4")


@pytest.mark.parametrize(("format", "way"), BANDS, ids=str)
def test_quantised_models_stay_near_and_the_camera_exact(format, way, folder):
    low, high = BANDS[format, way]
    plain, model = (load(folder / "stage1.safetensors", {}, format=f) for f in (None, format))
    assert low < relative_error(predicted(go(model, way)), predicted(plain)) < high
    looks = []
    for network in (plain, model):
        text, mask = randn((1, 1, 6, CONFIG.caption_channels), 2), torch.ones(1, 6)
        look = network.condition(text, mask, camera_poses(GRID), randn((1, 48, *GRID), 3), GRID)
        looks.append(
            [
                look.rotary,
                look.rays.to_ray,
                look.rays.from_ray,
                look.rays.rotary,
                look.plucker,
                *look.blocks[0].plucker_map,
            ]
        )
        x = randn((1, 4, 15, CONFIG.hidden_size), 7)
        attention = network.blocks[3].attn
        looks[-1] += [part.detach() for part in attention._in_ray_coordinates(x, look.rays)]
    for before, after in zip(*looks, strict=True):
        assert torch.equal(before, after), "camera and rotary tensors"
    plain, model = (load_refiner(folder / "refiner", torch.float32, format=f) for f in (None, format))
    assert low < relative_error(refined(go(model, way)), refined(plain)) < high


@pytest.mark.parametrize("format", FORMATS)
def test_quantised_files_are_what_is_quantised_while_loading_streamed_or_not(format, folder):
    dtype = torch.bfloat16
    loaded = [
        load(place, {}, dtype, streamed=streamed, format=format, reference=reference)
        for place, reference in (
            (folder / "stage1.safetensors", None),
            (folder / f"stage1_{format}", folder / "stage1.safetensors"),
        )
        for streamed in (False, True)
    ]
    states = [model.state_dict() for model in (loaded[0], loaded[2])]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert tensor.dtype == states[1][name].dtype, name
        assert torch.equal(raw(tensor), raw(states[1][name])), name
    first, *others = (predicted(go(model, "native")) for model in loaded)
    assert all(torch.equal(first, other) for other in others)
    loaded = [
        load_refiner(place, dtype, streamed=streamed, format=format)
        for place in (folder / "refiner", folder / f"refiner_{format}")
        for streamed in (False, True)
    ]
    first, *others = (refined(model) for model in loaded)
    assert all(torch.equal(first, other) for other in others)


def test_a_quantised_folder_is_small_and_says_what_it_is(folder):
    file = folder / "refiner_nvfp4" / "model.safetensors"
    tensors = load_file(file)
    assert not any("audio" in name for name in tensors)
    linear = "transformer_blocks.0.attn1.to_q"
    kinds = {end: tensors[f"{linear}.{end}"].dtype for end in ("weight", "weight_scale", "weight_scale_2")}
    assert list(kinds.values()) == [torch.uint8, torch.float8_e4m3fn, torch.float32]
    assert tensors[f"{linear}.weight_scale"].shape == (32, 2), "row by row, as ModelOpt has it"
    record = (folder / "refiner_nvfp4" / "hf_quant_config.json").read_text()
    assert '"NVFP4"' in record and '"group_size": 16' in record and '"proj_out"' in record
    assert (folder / "refiner_nvfp4" / "config.json").read_text() == (
        folder / "refiner" / "config.json"
    ).read_text()


def test_what_must_not_be_quantised_is_one_sentence_and_leaves_nothing(folder, tmp_path):
    source, target = folder / "stage1.safetensors", tmp_path / "target"

    def refused(place: Path, said: str, error=ValueError):
        with pytest.raises(error, match=said):
            quantize_checkpoint(place, target, "nvfp4", "model.safetensors", False)

    refused(folder / "stage1_fp8" / "model.safetensors", "is quantised in fp8 already")
    lora = {**load_file(source), "blocks.0.attn.qkv.lora_A.weight": torch.zeros(2, 48)}
    save_file(lora, tmp_path / "lora.safetensors")
    refused(tmp_path / "lora.safetensors", "holds a LoRA beside the weights; merge it")
    broken = {name: tensor for name, tensor in load_file(source).items() if "qkv" not in name}
    save_file(broken, tmp_path / "broken.safetensors")
    refused(tmp_path / "broken.safetensors", "does not fit the stage-1 model: tensors 4 missing")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.safetensors", "lora.safetensors"]
    target.mkdir()
    refused(source, "is there already; remove it", FileExistsError)
    with pytest.raises(ValueError, match="is quantised in nvfp4; choose a preset in nvfp4"):
        load(folder / "stage1_nvfp4", {})
    with pytest.raises(ValueError, match="is quantised in fp8, not in nvfp4"):
        load(folder / "stage1_fp8", {}, format="nvfp4")


def test_padding_of_a_prompt_does_not_change_the_picture(folder):
    model = go(load(folder / "stage1.safetensors", {}, format="nvfp4"), "native")
    text, mask = randn((2, 1, 6, CONFIG.caption_channels), 2), torch.ones(2, 6)
    mask[1, 3:] = 0
    first = predicted(model, 2, text, mask)
    text[1, :, 3:] *= 1000
    assert torch.equal(predicted(model, 2, text, mask), first)


def test_what_a_format_means_on_a_cpu_is_said():
    assert in_words("nvfp4", "cpu") == (
        "NVFP4: weights in 4 bits and activations as they are, which saves memory but no time, as a CPU has no FP4 "
        "arithmetic."
    )
    assert in_words("fp8", "cpu").startswith("FP8: weights in 8 bits and activations as they are")
