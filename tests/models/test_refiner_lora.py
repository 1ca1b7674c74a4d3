# SPDX-License-Identifier: GPL-3.0-or-later
"""An adapter beside the refiner's weights, and merged into them: the same picture either way."""

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from backend.__main__ import main
from backend.models.lora import Adapter, LowRank, inject, require_fit
from backend.models.refiner import RefinerConfig, RefinerRun, RefinerTransformer, load_refiner
from backend.models.refiner.loading import is_audio, matched, matching_adapter, not_applied
from tests.refiner_adapter import SPELLINGS, factors, write_adapter
from tests.refiner_reference import CAPTION, CHANNELS, tiny_refiner, write_refiner

GRID, WIDTH = (2, 3), 32
ATTENTION = {
    f"transformer_blocks.{block}.attn1.to_{part}": (WIDTH, WIDTH) for block in range(2) for part in "qkv"
}


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def velocity(model):
    run = RefinerRun(model, randn(1, 5, CAPTION, seed=1), GRID, window=4)
    run.begin(randn(1, CHANNELS, 1, *GRID, seed=2))
    run.place(slice(1, 4))
    return run.velocity(randn(1, CHANNELS, 3, *GRID, seed=3), 0.9)


def assert_equal(name, actual, expected, tolerance=1e-5):
    error = ((actual - expected).norm() / expected.norm()).item()
    assert error <= tolerance, f"{name} differs by {error:.1e} of its norm"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_refiner(tmp_path_factory.mktemp("refiner"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("loras") / "style.safetensors", factors(ATTENTION))


@pytest.fixture(scope="module")
def hand_merged(folder):
    """The base model with W + B A, computed here."""
    model = load_refiner(folder, torch.float32)
    for module, (a, b) in factors(ATTENTION).items():
        model.get_submodule(module).weight.add_(b @ a)
    return velocity(model)


def test_live_fused_and_merged_by_hand_are_the_same(folder, adapter, hand_merged):
    model = load_refiner(folder, torch.float32, adapter=adapter)
    live = velocity(model)
    assert_equal("live", live, hand_merged)
    assert (live - velocity(load_refiner(folder, torch.float32))).abs().max() > 0.1, (
        "the adapter does something"
    )
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.merge()
    assert_equal("fused by peft", velocity(model), hand_merged)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_read_and_blocks_take_their_adapter_along(spelling, folder, hand_merged, tmp_path):
    path = write_adapter(tmp_path / "style.safetensors", factors(ATTENTION), spelling)
    for streamed in (False, True):
        model = load_refiner(folder, torch.float32, streamed=streamed, adapter=path)
        assert_equal(f"{spelling}, streamed {streamed}", velocity(model), hand_merged)


def test_the_library_merges_the_same(folder, adapter, tmp_path):
    library = tiny_refiner()
    library.load_lora_adapter(
        load_file(write_adapter(tmp_path / "a.safetensors", factors(ATTENTION), "diffusers"))
    )
    library.fuse_lora()
    library.unload_lora()
    tensors = {name: tensor for name, tensor in library.state_dict().items() if not is_audio(name)}
    merged = load_refiner(folder, torch.float32)
    merged.load_state_dict(tensors)
    assert_equal("live", velocity(load_refiner(folder, torch.float32, adapter=adapter)), velocity(merged))


def test_strength_alpha_and_ranks_of_each_linear_count(folder, adapter, tmp_path):
    base = velocity(load_refiner(folder, torch.float32))
    assert torch.equal(velocity(load_refiner(folder, torch.float32, adapter=adapter, strength=0.0)), base)
    first, *others = ATTENTION
    pairs = factors({first: (WIDTH, WIDTH)}, rank=3) | factors(dict.fromkeys(others, (WIDTH, WIDTH)), rank=5)
    path = write_adapter(
        tmp_path / "mixed.safetensors", pairs, "plain", **{f"{first}.alpha": torch.tensor(6.0)}
    )
    model = load_refiner(folder, torch.float32)
    for module, (a, b) in pairs.items():
        model.get_submodule(module).weight.add_(0.5 * (2.0 if module == first else 1.0) * (b @ a))
    live = velocity(load_refiner(folder, torch.float32, adapter=path, strength=0.5))
    assert_equal("strength 0.5 with alpha", live, velocity(model))


def test_names_of_the_original_and_parts_that_are_not_the_picture(folder, tmp_path):
    shapes = {"patchify_proj": (WIDTH, CHANNELS), "adaln_single.linear": (6 * WIDTH, WIDTH)}
    elsewhere = {
        "transformer_blocks.0.audio_attn1.to_q": (16, 16),
        "transformer_blocks.0.audio_to_video_attn.to_q": (16, 16),
        "audio_adaln_single.linear": (8, 8),
        "av_ca_video_scale_shift_adaln_single.linear": (8, 8),
        "av_ca_v2a_gate_adaln_single.linear": (8, 8),
        "text_embedding_projection.aggregate_embed": (8, 8),
        "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q": (8, 8),
    }
    path = write_adapter(tmp_path / "whole.safetensors", factors({**shapes, **elsewhere}), "lightricks")
    found = matching_adapter(path, matched(folder)[1])
    assert set(found.layers) == {"proj_in", "time_embed.linear"} and set(found.left_out) == set(elsewhere)
    assert "connectors (text_embedding_projection.aggregate_embed and 1 more), which is not" in not_applied(
        found
    )
    model = load_refiner(folder, torch.float32, adapter=path)
    adapted = {name for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    assert adapted == {"proj_in", "time_embed.linear"}


def test_rank_384_on_the_released_model_is_what_was_trained():
    with torch.device("meta"):
        model = RefinerTransformer(RefinerConfig())
    width = RefinerConfig().hidden_size
    a, b = ((384, width), lambda: None), ((width, 384), lambda: None)
    names = [f"transformer_blocks.{block}.attn1.to_{part}" for block in range(48) for part in "qkv"]
    adapter = Adapter("student", {name: LowRank(a, b, 1.0) for name in names})
    entries = {name: (tuple(tensor.shape), lambda: None) for name, tensor in model.state_dict().items()}
    require_fit(adapter, {name: shape for name, (shape, _) in entries.items()}, "refiner")
    entries = inject(model, entries, adapter, 1.0)
    state = model.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        n: s for n, (s, _) in entries.items()
    }
    added = [tensor for name, tensor in state.items() if ".lora_" in name]
    assert len(added) == 2 * 144 and sum(tensor.numel() for tensor in added) == 452_984_832


NAME = next(iter(ATTENTION))


@pytest.mark.parametrize(
    "tensors, said",
    [
        ({f"{NAME}.lora_A": torch.zeros(4, WIDTH)}, f"has only lora_A of {NAME}; get a whole file"),
        (
            {f"{NAME}.lora_A": torch.zeros(4, WIDTH), f"{NAME}.lora_B": torch.zeros(WIDTH, 3)},
            "has factors of rank 4 and 3",
        ),
        (
            {f"{NAME}.lora_A": torch.zeros(4, 48), f"{NAME}.lora_B": torch.zeros(WIDTH, 4)},
            r"as if it were \(32, 48\), but the refiner has it as \(32, 32\); choose another adapter",
        ),
        (
            {"blocks.9.qkv.lora_A": torch.zeros(4, WIDTH), "blocks.9.qkv.lora_B": torch.zeros(WIDTH, 4)},
            "changes blocks.9.qkv, which the refiner does not have; choose another adapter",
        ),
        (
            {f"{NAME}.lora_A": torch.zeros(4, 8, 1, 1), f"{NAME}.lora_B": torch.zeros(8, 4, 1, 1)},
            "that are no matrices; choose another adapter",
        ),
        (
            {"audio_proj_in.lora_A": torch.zeros(4, 4), "audio_proj_in.lora_B": torch.zeros(16, 4)},
            "changes nothing of this model; choose another adapter",
        ),
        (
            {f"{NAME}.lora_A": torch.zeros(4, WIDTH), f"transformer.{NAME}.lora_A": torch.zeros(4, WIDTH)},
            f"has lora_A of {NAME} twice",
        ),
        ({f"{NAME}.alpha": torch.tensor(torch.nan)}, f"has no number in {NAME}.alpha"),
        ({f"{NAME}.alpha": torch.ones(2)}, f"has no number in {NAME}.alpha"),
        ({"proj_in.weight": torch.zeros(4, 4)}, "is not a LoRA adapter: proj_in.weight is neither"),
    ],
)
def test_what_does_not_fit_is_named(tensors, said, folder, tmp_path):
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=said):
        load_refiner(folder, torch.float32, adapter=tmp_path / "other.safetensors")


def test_pickles_and_damaged_files_are_not_read(folder, adapter, tmp_path):
    for name in ("style.pt", "style.CKPT"):
        (tmp_path / name).write_bytes(b"\x80")
        with pytest.raises(ValueError, match=f"{name} is a pickle, which could run code"):
            load_refiner(folder, torch.float32, adapter=tmp_path / name)
    (tmp_path / "half.safetensors").write_bytes(adapter.read_bytes()[:-100])
    with pytest.raises(ValueError, match="half.safetensors of the adapter is damaged or incomplete"):
        load_refiner(folder, torch.float32, adapter=tmp_path / "half.safetensors")


@pytest.fixture(scope="module")
def weights(folder, tmp_path_factory):
    """A weights folder with the refiner in bf16, in two shards."""
    root = tmp_path_factory.mktemp("weights")
    place = root / "refiner"
    model = tiny_refiner().to(torch.bfloat16)
    model.save_pretrained(place, max_shard_size="100KB")
    assert len(list(place.glob("*.safetensors"))) > 1
    return root


def merged(weights, adapter, target, *further):
    words = ["weights", "merge", "refiner", "--weights", str(weights), "--lora", str(adapter)]
    return main([*words, "--target", str(target), *further])


def test_the_tool_writes_a_whole_refiner_with_sums_rounded_once(weights, adapter, tmp_path, capsys):
    target = tmp_path / "refiner"
    assert merged(weights, adapter, target, "--strength", "0.5") == 0
    assert "6 linears are changed" in capsys.readouterr().out
    before, after = (
        {n: e[1]() for n, e in matched(path)[1].items()} for path in (weights / "refiner", target)
    )
    for module, (a, b) in factors(ATTENTION).items():
        exact = before[f"{module}.weight"].float() + 0.5 * (b @ a)
        assert torch.equal(after.pop(f"{module}.weight"), exact.bfloat16()), module
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items()), "all else is as it was"
    assert "LTX-2" in (target / "NOTICES" / "MODIFIED_refiner.txt").read_text()
    live = velocity(load_refiner(weights / "refiner", torch.float32, adapter=adapter, strength=0.5))
    assert_equal("merged", velocity(load_refiner(target, torch.float32)), live, 2e-2)


def test_the_tool_leaves_nothing_half_written_and_nothing_overwritten(weights, adapter, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    assert merged(weights, adapter, tmp_path / "there") == 1
    assert "exists already; name a new folder" in capsys.readouterr().err
    other = write_adapter(tmp_path / "other.safetensors", factors({"blocks.1.q": (4, 4)}))
    assert merged(weights, other, tmp_path / "new") == 1
    assert "which the refiner does not have" in capsys.readouterr().err
    assert merged(tmp_path, adapter, tmp_path / "new") == 1
    assert "download it first" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.safetensors", "there"]


def test_quantised_weights_are_not_merged_into(weights, adapter, tmp_path, capsys):
    quantised = tmp_path / "weights" / "refiner"
    quantised.mkdir(parents=True)
    (quantised / "config.json").write_bytes((weights / "refiner" / "config.json").read_bytes())
    tensors = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tiny_refiner().state_dict().items()}
    save_file(tensors, quantised / "diffusion_pytorch_model.safetensors")
    assert merged(tmp_path / "weights", adapter, tmp_path / "new") == 1
    assert "merge the adapter into the original weights, and quantise afterwards" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
