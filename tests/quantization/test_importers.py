# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantised checkpoints as others write them, written here, are read as what they were; wrong ones are refused."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.models.stage1 import load
from backend.quantization.recipe import STAGE1
from kernels import nvfp4
from kernels.nvfp4.vectorized import linear_scales
from tests.miniature_release import STAGE1 as CONFIG
from tests.miniature_release import stage1_weights


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "model.safetensors"
    save_file(stage1_weights(1), path)
    return path


@pytest.fixture(scope="module")
def ours(plain):
    """What the miniature is in memory when it is quantised here."""
    return load(plain, CONFIG, format="nvfp4").state_dict()


def swapped(packed):
    return packed << 4 | packed >> 4


def modelopt(weight):
    made = nvfp4.quantize_weight(weight)
    scales = linear_scales(made)
    return {
        "weight": made.packed,
        "weight_scale": scales,
        "weight_scale_2": made.tensor_scale,
        "input_scale": torch.tensor(0.01),
    }


def comfyui(weight):
    made = nvfp4.quantize_weight(weight)
    rows, columns = -(-weight.shape[0] // 128) * 128, -(-weight.shape[1] // 64) * 4
    settings = json.dumps({"format": "nvfp4"}).encode()
    return {
        "weight": swapped(made.packed),
        "weight_scale": made.scales.view(rows, columns),
        "weight_scale_2": made.tensor_scale,
        "comfy_quant": torch.tensor(list(settings), dtype=torch.uint8),
    }


def compressed_tensors(weight):
    made = modelopt(weight)
    return {
        "weight_packed": made["weight"],
        "weight_scale": made["weight_scale"],
        "weight_global_scale": 1 / made["weight_scale_2"].reshape(1),
        "input_global_scale": torch.ones(1),
    }


def write(path, spelled, change=lambda tensors: tensors):
    """The miniature with its listed linears as a program spells them."""
    weights = stage1_weights(1)
    names = [name for name in weights if re.fullmatch(rf"({STAGE1.listed})\.weight", name)]
    tensors = {name: tensor for name, tensor in weights.items() if name not in names}
    for name in names:
        own = change(spelled(weights[name].flatten(1)))
        tensors |= {f"{name.removesuffix('weight')}{end}": t.contiguous() for end, t in own.items()}
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("spelled", [modelopt, comfyui, compressed_tensors], ids=lambda f: f.__name__)
def test_each_layout_is_read_into_ours(spelled, ours, plain, tmp_path):
    path = write(tmp_path / "model.safetensors", spelled)
    got = load(path, {"cam_renorm_softmax": True}, format="nvfp4", reference=plain).state_dict()
    assert got.keys() == ours.keys()
    for name, tensor in ours.items():
        if name.endswith("weight_scale_2"):  # the reciprocal of a reciprocal
            assert torch.allclose(got[name], tensor, rtol=1e-6), name
        else:
            assert torch.equal(got[name].view(torch.uint8), tensor.view(torch.uint8)), name


def _with(name, change):
    return lambda tensors: {**tensors, name: change(tensors[name])}


WRONG = {
    "nibbles": (modelopt, _with("weight", swapped), "the order of two numbers in a byte of .* is the other way"),
    "nibbles of comfyui": (comfyui, _with("weight", swapped), "the order of two numbers in a byte of"),
    "scales": (
        comfyui,
        _with("weight_scale", lambda s: nvfp4.unswizzle(s.flatten(), *s.shape)),
        "the order of block scales of .* is the other way round",
    ),
    "tensor scale": (
        compressed_tensors,
        _with("weight_global_scale", lambda s: 1 / s),
        "the direction of the tensor scale of",
    ),
    "two at once": (
        compressed_tensors,
        lambda t: _with("weight_packed", swapped)(_with("weight_global_scale", lambda s: 1 / s)(t)),
        "the order of two numbers in a byte and the direction of the tensor scale of .* are the other way round",
    ),
    "other weights": (
        modelopt,
        _with("weight", lambda w: w.flip(0)),
        "is not the plain weight in fewer bits, in any known layout",
    ),
    "a shape": (modelopt, _with("weight_scale", lambda s: s[:, :-1]), r"weight_scale should be \(\d+, \d+\) in a file"),
    "scaled inputs": (
        modelopt,
        lambda t: {**t, "pre_quant_scale": torch.ones(2 * t["weight"].shape[1])},
        "pre_quant_scale",
    ),
    "another format": (
        comfyui,
        _with("comfy_quant", lambda _: torch.tensor(list(b'{"format": "mxfp8"}'), dtype=torch.uint8)),
        "in ComfyUI's format mxfp8; only nvfp4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_convention_that_a_file_does_not_follow_is_named(what, plain, tmp_path):
    spelled, change, said = WRONG[what]
    path = write(tmp_path / "model.safetensors", spelled, change)
    with pytest.raises(ValueError, match=said):
        load(path, {}, format="nvfp4", reference=plain)


def test_linears_that_a_file_leaves_plain_are_quantised(ours, plain, tmp_path):
    """As ModelOpt's exclude_modules may ask."""
    path = write(tmp_path / "model.safetensors", modelopt)
    tensors = load_file(path)
    left_out = "blocks.1.attn.proj"
    tensors = {n: t for n, t in tensors.items() if not n.startswith(f"{left_out}.weight")}
    tensors.pop(f"{left_out}.input_scale")
    tensors[f"{left_out}.weight"] = stage1_weights(1)[f"{left_out}.weight"]
    save_file(tensors, path)
    got = load(path, {}, format="nvfp4").state_dict()
    assert torch.equal(got[f"{left_out}.weight"], ours[f"{left_out}.weight"])
