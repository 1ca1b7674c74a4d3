# SPDX-License-Identifier: GPL-3.0-or-later
"""The refiner against diffusers', its window and positions by number, and its loading."""

import json
from itertools import pairwise

import pytest
import torch
from diffusers.models.transformers.transformer_sana_wm_refiner import SanaWMLTX2RefinerTransformer3DModel
from safetensors.torch import load_file, save_file

from backend.models.refiner import RefinerConfig, RefinerRun, RefinerTransformer, load_refiner
from backend.models.refiner.loading import is_audio
from backend.models.refiner.memory import LayerMemory
from backend.models.refiner.rotary import rotary_tables, rotate
from backend.sampling.refine import SIGMAS, refine
from tests.refiner_reference import CAPTION, CHANNELS, library_refined, tiny_refiner, write_refiner

FPS, GRID, TEXT_LENGTH = 16, (2, 3), 8


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


TEXT = randn(1, TEXT_LENGTH, CAPTION, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_refiner(tmp_path_factory.mktemp("refiner"))


@pytest.fixture(scope="module")
def ours(folder):
    return load_refiner(folder, torch.float32)


def blocks_of(frames: int, length: int = 3) -> list[slice]:
    """The sink with the first block, then the others; the last may be shorter."""
    ends = [*range(1 + length, frames, length), frames]
    return [slice(a, b) for a, b in pairwise([0, *ends])]


def block_noise(frames: int, length: int, seed: int = 42):
    """As the library draws it: one generator, block after block."""
    generator = torch.Generator().manual_seed(seed)
    blocks = [slice(max(block.start, 1), block.stop) for block in blocks_of(frames, length)]
    drawn = {
        block.start: torch.randn((1, CHANNELS, block.stop - block.start, *GRID), generator=generator)
        for block in blocks
    }
    return lambda active: drawn[active.start]


def refined(model, latents, length, window, stored_dtype=None, text=TEXT):
    run = RefinerRun(model, text, GRID, window, stored_dtype)
    frames = latents.shape[2]
    chunks = [(block, latents[:, :, block]) for block in blocks_of(frames, length)]
    parts = [part for _, part in refine(run, chunks, block_noise(frames, length))]
    return torch.cat(parts, dim=2), run


def library(latents, length, window, masked=True):
    mask = torch.ones(1, TEXT_LENGTH) if masked else None
    return library_refined(tiny_refiner(), TEXT, mask, latents, block_size=length, kv_max_frames=window)


def assert_close(name, got, expected, atol):
    error = (got - expected).abs().max().item()
    assert error <= atol, f"{name}: {error:.2e} > {atol:.0e}"


@pytest.mark.parametrize("frames, window", [(23, 11), (11, 4), (12, 11), (2, 11)])
def test_blocks_with_a_window_are_the_librarys(ours, frames, window):
    latents = randn(1, CHANNELS, frames, *GRID, seed=1)
    got, _ = refined(ours, latents, 3, window)
    assert torch.equal(got[:, :, :1], latents[:, :, :1]), "the sink is not refined"
    assert_close("refined latents", got, library(latents, 3, window), 1e-5)


def test_a_single_shot_is_one_block_of_everything(ours):
    latents = randn(1, CHANNELS, 11, *GRID, seed=2)
    got, _ = refined(ours, latents, 10, 11)
    assert_close("refined latents", got, library(latents, 10, 11), 1e-5)


def test_the_mask_of_the_text_says_nothing(ours):
    latents = randn(1, CHANNELS, 5, *GRID, seed=4)
    assert_close("latents", library(latents, 3, 11, masked=True), library(latents, 3, 11, masked=False), 1e-6)


def test_two_clips_at_once_are_each_by_itself(ours):
    pair = randn(2, CHANNELS, 5, *GRID, seed=5)
    alone = torch.cat([refined(ours, clip[None], 3, 11)[0] for clip in pair])
    assert_close("batch of two", refined(ours, pair, 3, 11)[0], alone, 1e-5)


def test_the_audio_stream_does_not_reach_the_video():
    model, latents = tiny_refiner(), randn(1, CHANNELS, 5, *GRID, seed=6)
    before = library_refined(model, TEXT, None, latents)
    for name, tensor in model.state_dict().items():
        if is_audio(name):
            tensor.fill_(torch.nan)
    assert torch.equal(library_refined(model, TEXT, None, latents), before)


def test_the_released_model_has_the_video_stream_that_is_built():
    with torch.device("meta"):
        released = SanaWMLTX2RefinerTransformer3DModel(rope_type="split")
        built = RefinerTransformer(RefinerConfig.from_diffusers({**dict(released.config)}))
    whole = {name: tuple(tensor.shape) for name, tensor in released.state_dict().items()}
    assert (len(whole), sum(torch.Size(shape).numel() for shape in whole.values())) == (3510, 18_876_174_592)
    video = {name: shape for name, shape in whole.items() if not is_audio(name)}
    assert video == {name: tuple(tensor.shape) for name, tensor in built.state_dict().items()}
    assert (len(video), sum(torch.Size(shape).numel() for shape in video.values())) == (1215, 13_041_520_768)


@pytest.mark.parametrize("window, kept", [(11, 10), (4, 3), (1, 0)])
def test_the_history_is_bounded_and_the_sink_moves_in_front_of_it(ours, window, kept):
    places, run = [], None
    latents = randn(1, CHANNELS, 20, *GRID, seed=7)

    class Watched(RefinerRun):
        def place(self, frames):
            places.append((frames.start, self.sink_place(frames.start)))
            super().place(frames)

    run = Watched(ours, TEXT, GRID, window)
    chunks = [(block, latents[:, :, block]) for block in blocks_of(20)]
    for _ in refine(run, chunks, block_noise(20, 3)):
        pass
    starts, sinks = zip(*places, strict=True)
    assert starts == (1, 4, 7, 10, 13, 16, 19)
    assert list(sinks) == [start - min(start - 1, kept) - 1 for start in starts]
    if window == 11:
        assert list(sinks) == [0, 0, 0, 0, 2, 5, 8]
    memory = run._memory[0]
    keys, _ = memory.seen_with(torch.zeros(1, 2, 6, 16), torch.zeros(1, 2, 6, 16))
    assert keys.shape[2] == (1 + 1 + kept) * 6, "the active frame, the sink and the history"


def test_the_history_keeps_the_newest_frames():
    memory = LayerMemory(history_frames=2, cells=3)
    rotary = torch.ones(1, 3, 2), torch.zeros(1, 3, 2)
    frames = [torch.full((1, 1, 3, 4), float(number)) for number in range(6)]
    memory.keep_sink(frames[0], frames[0])
    memory.place_sink(rotary)
    memory.remember(torch.cat(frames[1:4], dim=2), torch.cat(frames[1:4], dim=2))
    memory.remember(frames[4], frames[4])
    keys, values = memory.seen_with(frames[5], frames[5])
    assert sorted(keys[0, 0, ::3, 0].tolist()) == [0, 3, 4, 5] and torch.equal(keys, values)


def test_fp8_keys_and_values_are_near_and_are_half_as_large(ours):
    latents = randn(1, CHANNELS, 14, *GRID, seed=8)
    exact, run = refined(ours, latents, 3, 11)
    near, small = refined(ours, latents, 3, 11, torch.float8_e4m3fn)
    error = (near - exact).norm() / exact.norm()
    assert 0 < error < 0.02, f"relative error of the latents {error:.3f}"
    history, halved = run._memory[0]._history[0], small._memory[0]._history[0]
    assert halved.dtype == torch.float8_e4m3fn and halved.nbytes * 4 == history.nbytes


def test_the_clips_end_is_not_remembered(ours):
    calls = []

    class Counted(RefinerRun):
        def velocity(self, latents, sigma):
            calls.append(sigma)
            return super().velocity(latents, sigma)

        def remember(self, latents):
            calls.append("remembered")
            super().remember(latents)

    latents = randn(1, CHANNELS, 7, *GRID, seed=9)
    chunks = [(block, latents[:, :, block]) for block in blocks_of(7)]
    list(refine(Counted(ours, TEXT, GRID, 11), chunks, block_noise(7, 3)))
    assert calls == [*SIGMAS[:3], "remembered", *SIGMAS[:3]]


def test_going_on_gives_the_same_latents(ours):
    latents = randn(1, CHANNELS, 14, *GRID, seed=10)
    whole, _ = refined(ours, latents, 3, 4)
    chunks = [(block, latents[:, :, block]) for block in blocks_of(14)]
    made = {block.start: whole[:, :, block] for block, _ in chunks[:3]}
    run = RefinerRun(ours, TEXT, GRID, 4)
    parts = [part for _, part in refine(run, chunks, block_noise(14, 3), lambda block: made.get(block.start))]
    assert torch.equal(torch.cat(parts, dim=2), whole)


def test_rotary_tables_at_the_released_width_keep_their_precision():
    config = RefinerConfig()
    frames = range(1, 121, 7)
    cos, sin = rotary_tables(config, frames, 2, 2, FPS)
    exact_cos, _ = rotary_tables(config, frames, 2, 2, FPS, dtype=torch.float64)
    assert cos.shape == (32, len(frames) * 4, 64)
    assert_close("cosine", cos, exact_cos, 1e-2)
    assert torch.equal(cos[0, :, :2], torch.ones(len(frames) * 4, 2)), "the identity stands in front"
    assert torch.equal(sin[0, :, :2], torch.zeros(len(frames) * 4, 2))


def test_rotation_only_tells_distances_behind_the_first_frame():
    config = RefinerConfig(num_heads=2, head_dim=16)
    x = randn(1, 2, 2, 16, seed=11, dtype=torch.float64).float()

    def logits(first):
        turned = rotate(x, rotary_tables(config, [first, first + 5], 1, 1, FPS, dtype=torch.float64))
        return (turned[:, :, 0] * turned[:, :, 1]).sum(-1)

    assert_close("logits 100 frames later", logits(101), logits(1), 1e-5)
    assert (logits(0) - logits(1)).abs().max() > 1e-4, "frame 0 holds one pixel frame only"


@pytest.mark.parametrize(
    "entry, said",
    [
        ({"rope_type": "interleaved"}, "only 'split' is supported"),
        ({"gated_attn": True}, "which is LTX-2.3"),
        ({"audio_gated_attn": True}, None),
        ({"cross_attention_dim": 48}, "unlike its token width"),
        ({"something_new": 1}, "unknown entry 'something_new'"),
    ],
)
def test_a_config_of_another_model_is_refused(folder, entry, said):
    entries = json.loads((folder / "config.json").read_text()) | entry
    if said is None:
        RefinerConfig.from_diffusers(entries)
        return
    with pytest.raises(ValueError, match=said):
        RefinerConfig.from_diffusers(entries)


def test_a_config_must_say_how_it_rotates(folder):
    entries = json.loads((folder / "config.json").read_text())
    del entries["rope_type"]
    with pytest.raises(ValueError, match="does not say its rope_type"):
        RefinerConfig.from_diffusers(entries)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda w: w.pop("proj_in.bias"), r"1 missing \(proj_in.bias\)"),
        (lambda w: w.update({"proj_new.bias": torch.zeros(3)}), r"1 unknown \(proj_new.bias\)"),
        (lambda w: w.update({"proj_in.bias": torch.zeros(3)}), r"proj_in.bias \(3,\) instead of \(32,\)"),
        (
            lambda w: w.update({"transformer_blocks.0.attn1.to_gate_logits.bias": torch.zeros(2)}),
            "a checkpoint of LTX-2.3",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_names_its_tensors(folder, tmp_path, change, said):
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match=said):
        load_refiner(tmp_path)


def test_a_truncated_checkpoint_is_a_sentence(folder, tmp_path):
    whole = (folder / "diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match="damaged or incomplete .* download it again"):
        load_refiner(tmp_path)
    with pytest.raises(FileNotFoundError, match="no config.json of the refiner"):
        load_refiner(tmp_path / "nowhere")


def test_streamed_blocks_compute_the_same_and_leave_nothing_behind(folder, ours):
    streamed = load_refiner(folder, torch.float32, streamed=True)
    latents = randn(1, CHANNELS, 5, *GRID, seed=12)
    assert torch.equal(refined(streamed, latents, 3, 11)[0], refined(ours, latents, 3, 11)[0])
    assert all(parameter.is_meta for parameter in streamed.transformer_blocks.parameters())
