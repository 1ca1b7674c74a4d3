# SPDX-License-Identifier: GPL-3.0-or-later
"""Prompts of stage 1 and of the refiner against the libraries, their files, and the cache of encoded prompts."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import SanaWMPipeline
from diffusers.pipelines.sana_wm.pipeline_sana_wm import DEFAULT_CHI_PROMPT
from diffusers.pipelines.sana_wm.refiner import _pack_text_embeds
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from backend.models.text import (
    PromptCache,
    encode_refiner_prompt,
    encode_stage1_negative,
    encode_stage1_prompt,
)
from backend.models.text.connector import VideoConnector, normalized
from backend.models.text.gemma import Gemma
from backend.models.text.refiner_prompt import packed_states
from backend.models.text.stage1_prompt import CHI_PROMPT
from tests.miniature_text import write_connectors, write_gemma2, write_gemma3, write_shards

CPU, FP32 = torch.device("cpu"), torch.float32
PROMPT = "a red cat sleeping in the house"
OVER_LONG = "the camera moves slowly forward right of a blue street " * 60
TOKENS = 16
IDS = {"encoder": "gemma-3-12b 1f2e", "tokenizer": "77aa", "connectors": "c0", "type": "bfloat16"}


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("release")


@pytest.fixture(scope="module")
def gemma2(release):
    return write_gemma2(release / "gemma2")


@pytest.fixture(scope="module")
def gemma3(release):
    return write_gemma3(release / "gemma3")


@pytest.fixture(scope="module")
def connectors(release):
    return write_connectors(release / "connectors")


def refined(release: Path, prompt: str, dtype: torch.dtype = FP32) -> torch.Tensor:
    folders = (release / "gemma3", release / "gemma3", release / "connectors")
    return encode_refiner_prompt(prompt, *folders, dtype=dtype, tokens=TOKENS)


@torch.no_grad()
def library_states(gemma3, release: Path, prompt: str, side: str, dtype: torch.dtype = FP32):
    """Hidden states (1, tokens, channels, layers + 1) of the padded prompt, and the mask, as the library does it."""
    tokenizer = AutoTokenizer.from_pretrained(release / "gemma3")
    padded = tokenizer(
        [prompt.strip()],
        padding="max_length",
        padding_side=side,
        max_length=TOKENS,
        truncation=True,
        return_tensors="pt",
    )
    outputs = gemma3.to(dtype)(**padded, output_hidden_states=True)
    gemma3.float()
    return torch.stack(outputs.hidden_states, dim=-1), padded.attention_mask


def all_states(folder: Path, ids: list[int], first: int = 0) -> torch.Tensor:
    """Hidden states (tokens, channels, layers + 1) of our run, as they come."""
    states = []
    gemma = Gemma(folder, "gemma3_text")
    states.append(gemma.run(ids, CPU, FP32, first, lambda index, state: states.append(state)))
    return torch.stack(states, dim=-1)


def copied(folder: Path, to: Path) -> Path:
    return shutil.copytree(folder, to / folder.name)


def change_weights(folder: Path, change) -> None:
    """Let `change` edit the state dict of the folder's last weights file."""
    file = sorted(folder.glob("*.safetensors"))[-1]
    state = load_file(file)
    change(state)
    save_file(state, file)


# Stage 1


def test_the_instruction_is_the_released_one():
    assert CHI_PROMPT == "\n".join(DEFAULT_CHI_PROMPT)
    digest = hashlib.sha256(CHI_PROMPT.encode()).hexdigest()
    assert digest == "62b9ab89eebb0ac5ee4d264bf96bf19d2b81f504bc3852500efeaf5a34d638b1"


@pytest.mark.parametrize("tokens", [300, 16])
@pytest.mark.parametrize("prompt", [PROMPT, "", OVER_LONG], ids=["usual", "empty", "over-long"])
def test_stage1_prompts_equal_the_released_pipelines(release, gemma2, prompt, tokens):
    pipeline = SanaWMPipeline(AutoTokenizer.from_pretrained(release / "gemma2"), gemma2, None, None, None)
    with torch.no_grad():
        states, mask, negative, negative_mask = pipeline.encode_prompt(
            prompt, prompt, device=CPU, max_sequence_length=tokens, chi_prompt=DEFAULT_CHI_PROMPT
        )
    arguments = {
        "encoder": release / "gemma2",
        "tokenizer": release / "gemma2",
        "dtype": FP32,
        "tokens": tokens,
    }
    ours = encode_stage1_prompt(prompt, **arguments)
    ours_negative = encode_stage1_negative(prompt, **arguments)
    assert ours.states.shape == ours_negative.states.shape == (1, 1, tokens, 20)
    for encoded, reference, reference_mask in (
        (ours, states, mask),
        (ours_negative, negative, negative_mask),
    ):
        assert torch.equal(encoded.mask, reference_mask)
        valid = reference_mask.bool()[0]
        torch.testing.assert_close(encoded.states[0, 0, valid], reference[0, 0, valid], atol=1e-5, rtol=0)
        assert not encoded.states[0, 0, ~valid].any()


def test_the_tokenizer_may_stand_in_its_own_folder(release, tmp_path, gemma2):
    write_gemma2(tmp_path / "text_encoder", tmp_path / "tokenizer")
    apart = encode_stage1_negative(PROMPT, tmp_path / "text_encoder", tmp_path / "tokenizer", dtype=FP32)
    together = encode_stage1_negative(PROMPT, release / "gemma2", release / "gemma2", dtype=FP32)
    assert torch.equal(apart.states, together.states)
    with pytest.raises(FileNotFoundError, match="no tokenizer.json in .*text_encoder"):
        encode_stage1_negative(PROMPT, tmp_path / "text_encoder", tmp_path / "text_encoder")


# The refiner's text encoder


@pytest.mark.parametrize("sliding_window", [16, 5])
def test_the_streamed_text_half_equals_the_multimodal_model(tmp_path, sliding_window):
    """Six layers, four of them sliding; with a window of 5 they see less than the whole text."""
    library = write_gemma3(tmp_path, layers=6, sliding_window=sliding_window)
    ids = list(range(2, 34))
    with torch.no_grad():
        expected = library(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    assert torch.equal(all_states(tmp_path, ids), torch.stack(expected, dim=-1)[0])


def test_unpadded_states_equal_left_padded_ones(release, gemma3):
    expected, mask = library_states(gemma3, release, PROMPT, "left")
    ids = AutoTokenizer.from_pretrained(release / "gemma3")(PROMPT).input_ids
    assert len(ids) == mask.sum() < TOKENS
    for first in (0, TOKENS - len(ids)):
        ours = all_states(release / "gemma3", ids, first)
        torch.testing.assert_close(ours, expected[0, -len(ids) :], atol=1e-5, rtol=0)


@pytest.mark.parametrize("prompt", [f"  {PROMPT}\n", "", OVER_LONG], ids=["usual", "empty", "over-long"])
def test_refiner_prompts_equal_the_librarys(release, gemma3, connectors, prompt):
    ours = refined(release, prompt)
    assert ours.shape == (1, TOKENS, 24)
    for side in ("left", "right"):
        states, mask = library_states(gemma3, release, prompt, side)
        with torch.no_grad():
            expected, _, ones = connectors(states, mask, padding_side=side)
        assert ones.all()
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    states, mask = library_states(gemma3, release, prompt, "left")
    twice = _pack_text_embeds(states, mask.sum(-1), device=CPU, padding_side="left")
    with torch.no_grad():
        torch.testing.assert_close(ours, connectors(twice, mask)[0], atol=1e-5, rtol=0)


def test_bf16_prompts_stay_near_fp32(release, gemma3, connectors):
    ours = refined(release, PROMPT, torch.bfloat16)
    assert ours.dtype == torch.bfloat16
    error = (ours.float() - refined(release, PROMPT)).square().mean().sqrt()
    assert error < 0.05, f"RMS error {error:.3f} on outputs of variance 1"


def test_the_projection_by_rows_equals_the_connectors(release, gemma3, connectors):
    """With what the connectors are given in the library: states of one tensor, layer index fastest."""
    ids = AutoTokenizer.from_pretrained(release / "gemma3")(PROMPT).input_ids
    packed = packed_states(Gemma(release / "gemma3", "gemma3_text"), ids, CPU, FP32)
    ours = VideoConnector(release / "connectors").project(packed)
    states, mask = library_states(gemma3, release, PROMPT, "left")
    with torch.no_grad():
        expected = connectors.text_proj_in(_pack_text_embeds(states, mask.sum(-1), CPU))[0, -len(ids) :]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


def test_normalizing_twice_changes_nothing():
    states = 40 * torch.randn(7, 24, generator=torch.Generator().manual_seed(0)) + 3
    once = normalized(states.bfloat16())
    assert once.dtype == FP32
    assert (once.max() - once.min()).item() == pytest.approx(8, abs=1e-5)
    torch.testing.assert_close(normalized(once), once, atol=1e-5, rtol=0)


@pytest.mark.parametrize("prefix", ["", "model.", "model.language_model."])
@pytest.mark.parametrize("shards", [1, 2])
def test_other_spellings_and_a_text_only_copy_are_the_same_model(release, gemma3, tmp_path, prefix, shards):
    text = gemma3.model.language_model
    text.config.save_pretrained(tmp_path)
    write_shards(tmp_path, {prefix + name: tensor for name, tensor in text.state_dict().items()}, shards)
    ids = [2, 4, 9, 7]
    ours = packed_states(Gemma(tmp_path, "gemma3_text"), ids, CPU, FP32)
    assert torch.equal(ours, packed_states(Gemma(release / "gemma3", "gemma3_text"), ids, CPU, FP32))


def test_progress_counts_layers_and_may_end_the_run(release, gemma3, connectors):
    class Stopped(Exception):
        pass

    seen = []

    def on_layer(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 5:
            raise Stopped

    folders = (release / "gemma3", release / "gemma3", release / "connectors")
    encode_refiner_prompt(PROMPT, *folders, dtype=FP32, tokens=TOKENS, on_layer=on_layer)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(Stopped):
        encode_refiner_prompt(PROMPT, *folders, dtype=FP32, tokens=TOKENS, on_layer=on_layer)
    assert seen[3:] == [(1, 3), (2, 3)]


def test_one_decoder_layer_is_in_memory_at_a_time(release, gemma3, monkeypatch):
    gemma = Gemma(release / "gemma3", "gemma3_text")
    model = gemma._without_weights()
    monkeypatch.setattr(gemma, "_without_weights", lambda: model)
    loaded = []

    def on_state(index, state) -> None:
        loaded.append([not layer.mlp.up_proj.weight.is_meta for layer in model.layers])

    gemma.run([2, 4], CPU, FP32, on_state=on_state, on_layer=on_state)
    assert not any(sum(layers) for layers in loaded) and len(loaded) == 6
    assert model.embed_tokens.weight.shape == (2, 24)


# Files that do not fit


def test_tensors_that_do_not_fit_are_named(release, gemma3, gemma2, connectors, tmp_path):
    def spoil(state: dict) -> None:
        spoiled = next(name for name in state if "up_proj" in name)
        state["language_model.model.layers.9.extra.weight"] = state[spoiled][:1].clone()
        state[spoiled] = state[spoiled][:, :5].clone()

    folder = copied(release / "gemma3", tmp_path)
    change_weights(folder, spoil)
    with pytest.raises(
        ValueError, match=r"1 unknown \(layers.9.extra.weight\).*of another shape .*up_proj.*\(48, 5\) i"
    ):
        Gemma(folder, "gemma3_text")

    folder = copied(release / "gemma2", tmp_path)
    change_weights(folder, lambda state: state.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(
        ValueError, match=r"the text encoder: tensors 1 missing \(layers.1.mlp.up_proj.weight\)"
    ):
        encode_stage1_prompt(PROMPT, folder, folder)

    folder = copied(release / "connectors", tmp_path)
    change_weights(folder, lambda state: state.pop("video_connector.learnable_registers"))
    with pytest.raises(ValueError, match=r"1 missing \(video_connector.learnable_registers\)"):
        encode_refiner_prompt(PROMPT, release / "gemma3", release / "gemma3", folder)


def test_the_output_layer_and_the_audio_half_may_be_there_or_not(release, gemma2, connectors, tmp_path):
    folder = copied(release / "gemma2", tmp_path)
    change_weights(folder, lambda state: state.update({"lm_head.weight": torch.zeros(64, 20)}))
    expected = encode_stage1_negative(PROMPT, release / "gemma2", release / "gemma2", dtype=FP32)
    assert torch.equal(encode_stage1_negative(PROMPT, folder, folder, dtype=FP32).states, expected.states)

    folder = copied(release / "connectors", tmp_path)

    def remove_audio(state: dict) -> None:
        for name in [name for name in state if name.startswith("audio")]:
            state.pop(name)

    change_weights(folder, remove_audio)
    projected = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    complete = VideoConnector(release / "connectors").connect(projected, TOKENS, FP32)
    assert torch.equal(VideoConnector(folder).connect(projected, TOKENS, FP32), complete)


def test_pickles_missing_shards_damage_and_duplicates_are_refused(release, gemma2, gemma3, tmp_path):
    folder = copied(release / "gemma2", tmp_path)
    file = folder / "model.safetensors"
    shutil.copy(file, folder / "again.safetensors")
    with pytest.raises(ValueError, match="in two files; remove the one too many"):
        Gemma(folder, "gemma2")
    (folder / "again.safetensors").unlink()
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match="damaged or incomplete .*; download it again"):
        Gemma(folder, "gemma2")
    file.rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="no checkpoint .*.safetensors. of the text encoder"):
        Gemma(folder, "gemma2")

    folder = copied(release / "gemma3", tmp_path)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ValueError, match="does not fit the text encoder: tensors [0-9]+ missing"):
        Gemma(folder, "gemma3_text")


def test_folders_of_another_model_are_refused(release, gemma2, gemma3, connectors, tmp_path):
    with pytest.raises(ValueError, match="model of the kind gemma2, not gemma3_text"):
        encode_refiner_prompt(PROMPT, release / "gemma2", release / "gemma2", release / "connectors")
    with pytest.raises(FileNotFoundError, match="no config.json"):
        Gemma(tmp_path, "gemma2")
    with pytest.raises(
        ValueError, match="token 64, but the model in .* has 64; choose the tokenizer of this"
    ):
        Gemma(release / "gemma2", "gemma2").run([2, 64], CPU, FP32)

    write_connectors(tmp_path / "other", states=5)
    with pytest.raises(ValueError, match="gives 4 states of 24 channels, but .* take 5 of 24"):
        encode_refiner_prompt(PROMPT, release / "gemma3", release / "gemma3", tmp_path / "other")
    with pytest.raises(ValueError, match="8 registers.*multiple of that, not 12"):
        VideoConnector(release / "connectors").connect(torch.zeros(3, 24), 12, FP32)
    folder = copied(release / "connectors", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rope_type": "interleaved"}))
    with pytest.raises(
        ValueError, match="rope_type = interleaved, but those of the SANA-WM refiner have split"
    ):
        VideoConnector(folder)


# Encoded prompts on disk


def test_a_cached_prompt_needs_no_encoder(release, gemma3, connectors, tmp_path):
    folders = [copied(release / name, tmp_path) for name in ("gemma3", "connectors")]
    text = encode_refiner_prompt(PROMPT, folders[0], *folders, tokens=TOKENS)
    cache = PromptCache(tmp_path / "prompts")
    cache.save("refiner", PROMPT, IDS, {"text": text})
    for folder in folders:
        shutil.rmtree(folder)
    found = PromptCache(tmp_path / "prompts").load("refiner", PROMPT, IDS)
    assert found.keys() == {"text"} and found["text"].dtype == torch.bfloat16
    assert torch.equal(found["text"], text)
    assert [file.suffix for file in (tmp_path / "prompts").iterdir()] == [".safetensors"]


def test_a_stage1_prompt_goes_into_the_cache_and_comes_back(release, gemma2, tmp_path):
    encoded = encode_stage1_prompt(PROMPT, release / "gemma2", release / "gemma2")
    cache = PromptCache(tmp_path)
    cache.save("stage1", PROMPT, IDS, encoded._asdict())
    found = cache.load("stage1", PROMPT, IDS)
    assert torch.equal(found["states"], encoded.states) and torch.equal(found["mask"], encoded.mask)


def test_only_the_same_kind_prompt_and_models_are_found(tmp_path):
    cache = PromptCache(tmp_path / "prompts")
    assert cache.load("refiner", PROMPT, IDS) is None
    cache.save("refiner", PROMPT, IDS, {"text": torch.ones(2)})
    other = IDS | {"encoder": "another"}
    for kind, prompt, ids in (("stage1", PROMPT, IDS), ("refiner", "a dog", IDS), ("refiner", PROMPT, other)):
        assert cache.load(kind, prompt, ids) is None
    (file,) = (tmp_path / "prompts").iterdir()
    cache.save("refiner", PROMPT, other, {"text": torch.zeros(2)})
    (renamed,) = set((tmp_path / "prompts").iterdir()) - {file}
    shutil.copy(file, renamed)
    with pytest.raises(ValueError, match="made with id encoder = gemma-3-12b 1f2e, but another is needed"):
        cache.load("refiner", PROMPT, other)


def test_a_damaged_file_counts_as_absent_and_is_replaced(tmp_path):
    cache = PromptCache(tmp_path)
    cache.save("refiner", PROMPT, IDS, {"text": torch.ones(64)})
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", b"no tensors", whole[:-3], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(damaged)
        assert cache.load("refiner", PROMPT, IDS) is None
    cache.save("refiner", PROMPT, IDS, {"text": torch.zeros(64)})
    assert torch.equal(cache.load("refiner", PROMPT, IDS)["text"], torch.zeros(64))
