# SPDX-License-Identifier: GPL-3.0-or-later
"""The released model's whole way, from job folder to clip, on a miniature of the release in its own layout."""

import shutil
import threading
from contextlib import nullcontext
from dataclasses import replace

import diffusers.pipelines.sana_wm.refiner as library_refiner_module
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    SanaWMPipeline,
    SanaWMTransformer3DModel,
)
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from PIL import Image
from transformers import AutoTokenizer, Gemma2Model

from backend.conditioning.first_frame import read_first_frame
from backend.films.released_film import _REFINER_SEED, ReleasedFilm
from backend.films.released_models import ReleasedModels
from backend.films.shooting import Shooting
from backend.finished_chunks import FinishedChunks
from backend.models.vae import CausalDecoder
from backend.progress import Progress
from backend.protocol import JobFolder, Preset
from backend.sampling import self_forcing
from backend.video import read_frames
from backend.worker import ModelShelf, run_job
from tests.miniature_release import STAGE1, stage1_weights
from tests.miniature_text import write_gemma3
from tests.refiner_adapter import factors, write_adapter
from tests.refiner_reference import CAPTION, CHANNELS
from tests.worker.conftest import first_frame_png, shot

SIZE, SAMPLES = (160, 96), 25
FINAL = Preset("Final", "For tests.", "sana_wm", SIZE, steps=3, guidance=2.0, refiner=True)
TEACHER = replace(FINAL, name="Teacher", variant="chunk_causal")
DRAFT = replace(FINAL, name="Draft", variant="streaming", step_list=(1000, 960, 889, 727, 0), guidance=1.0)
PRESETS = {"final": FINAL, "teacher": TEACHER, "draft": DRAFT}


def job_of(folder, preset, **changes) -> JobFolder:
    made = shot(SAMPLES, SIZE, preset=preset, prompt="a red house in the street", **changes)
    return JobFolder.create(folder, made, first_frame_png(made))


def make(job, weights):
    return run_job(job, ModelShelf("cpu", weights), threading.Event())


def pixels(job):
    return np.stack(list(read_frames(job.clip_mp4, job.clip().frame_count)))


@pytest.mark.parametrize("name", PRESETS)
def test_a_refined_clip_comes_out_and_is_the_same_again(name, release, tmp_path):
    first, again = (job_of(tmp_path / folder, PRESETS[name]) for folder in ("one", "two"))
    for job in (first, again):
        record = make(job, release)
        assert record.state == "done", record.reason
    clip = first.clip()
    assert (clip.frame_count, clip.pose_offset) == (SAMPLES - 1, 1), "the refiner's sink is not delivered"
    assert pixels(first).shape == (SAMPLES - 1, SIZE[1], SIZE[0], 3) and pixels(first).std() > 5
    assert np.array_equal(pixels(first), pixels(again))
    assert {"stage1", "refiner"} <= {part.split("_")[0] for part in clip.model}
    assert clip.match is not None


def test_without_the_refiner_every_sample_has_its_frame(release, tmp_path):
    job = job_of(tmp_path, replace(DRAFT, refiner=False))
    assert make(job, release).state == "done"
    assert (job.clip().frame_count, job.clip().pose_offset) == (SAMPLES, 0)


def test_a_cached_prompt_needs_no_text_encoder(release, tmp_path):
    root = tmp_path / "weights"
    shutil.copytree(release, root)
    assert make(job_of(tmp_path / "one", DRAFT), root).state == "done"
    for folder in (
        "gemma-2-2b-it",
        "SANA-WM_streaming/gemma3_12b",
        "SANA-WM_bidirectional/refiner/text_encoder",
    ):
        shutil.rmtree(root / folder)
    job = job_of(tmp_path / "two", DRAFT)
    assert make(job, root).state == "done"
    other = shot(SAMPLES, SIZE, preset=DRAFT, prompt="a blue dog")
    other = JobFolder.create(tmp_path / "three", other, first_frame_png(other))
    assert (
        "was not encoded before, and Gemma-2-2B, stage 1's text encoder, is not in the weights folder"
        in make(other, root).reason
    )


STREAMING = "SANA-WM_streaming"
SPOILT = {
    "missing": (lambda root: shutil.rmtree(root / STREAMING / "ltx2_causal_vae"), "needs Video VAE, causal"),
    "not accepted": (lambda root: (root / "licences.json").unlink(), "was not accepted for"),
    "truncated": (
        lambda root: _truncate(
            next((root / STREAMING / "refiner_diffusers/transformer").glob("*.safetensors"))
        ),
        "is truncated",
    ),
    "of another release": (
        lambda root: _swap(root, "vae", "ltx2_causal_vae"),
        "non-causal decoder of the other release",
    ),
    "not converted": (lambda root: shutil.rmtree(root / "stage1_streaming"), "converted, once"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_wrong_weights_are_one_sentence_and_nothing_is_made(what, release, tmp_path):
    spoil, said = SPOILT[what]
    root = tmp_path / "weights"
    shutil.copytree(release, root)
    spoil(root)
    job = job_of(tmp_path / "jobs", DRAFT)
    record = make(job, root)
    assert record.state == "failed" and said in record.reason
    assert not job.clip_mp4.exists()


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-100])


def _swap(root, bidirectional, streaming):
    shutil.rmtree(root / "SANA-WM_streaming" / streaming)
    shutil.copytree(root / "SANA-WM_bidirectional" / bidirectional, root / "SANA-WM_streaming" / streaming)


def test_no_weights_folder_is_one_sentence(tmp_path):
    job = job_of(tmp_path, FINAL)
    assert "Final needs the weights of SANA-WM; choose their folder" in make(job, None).reason


@pytest.mark.parametrize("name", ["final", "draft"])
def test_a_stopped_clip_goes_on_where_it_was(name, release, tmp_path):
    whole, stopped = (job_of(tmp_path / folder, PRESETS[name]) for folder in ("one", "two"))
    assert make(whole, release).state == "done"
    stop = threading.Event()
    files = stopped.resume

    def after_stage1(event):
        if any(files.glob("latents_*")) and event["stage"] in ("refine", "denoise"):
            stop.set()

    assert run_job(stopped, ModelShelf("cpu", release), stop, after_stage1).state in ("queued", "done")
    assert make(stopped, release) is None or stopped.state().state == "done"
    assert np.array_equal(pixels(whole), pixels(stopped))


@pytest.mark.parametrize("name", PRESETS)
def test_blockout_guidance_draws_to_the_projection_and_zero_changes_nothing(name, release, tmp_path):
    preset = replace(PRESETS[name], refiner=False)
    plain = job_of(tmp_path / "plain", preset)
    off = job_of(tmp_path / "off", replace(preset, blockout_guidance=0.0, blockout_guidance_end=0.5))
    drawn = job_of(tmp_path / "drawn", replace(preset, blockout_guidance=1.0))
    for job in (plain, off, drawn):
        record = make(job, release)
        assert record.state == "done", record.reason
    assert np.array_equal(pixels(plain), pixels(off))
    assert not np.array_equal(pixels(plain), pixels(drawn))


def assert_close(what, got, expected, atol=1e-3):
    error = (got - expected).abs().max().item()
    assert got.shape == expected.shape and error <= atol, f"{what}: {error:.2e} > {atol:g}"


def test_every_stage_is_what_diffusers_makes_of_the_same_files(release, tmp_path, monkeypatch):
    """diffusers' camera branches rescale what the released weights' own code leaves alone, so here ours do too."""
    monkeypatch.setattr(ReleasedModels, "switches", {"cam_renorm_gdn": True, "cam_renorm_softmax": True})
    library = library_pipeline(release / "gemma-2-2b-it", release / "SANA-WM_bidirectional" / "vae")
    film, shooting = film_of(FINAL, release, tmp_path)
    made = shooting.shot
    image = Image.fromarray((shooting.first_frame * 255).round().astype(np.uint8))
    seen = {}
    monkeypatch.setattr(library, "prepare_latents", _noting(library.prepare_latents, seen))
    expected = library(
        image,
        made.prompt,
        c2w=shooting.path.c2w,
        intrinsics=shooting.path.intrinsics,
        height=SIZE[1],
        width=SIZE[0],
        num_frames=SAMPLES,
        num_inference_steps=FINAL.steps,
        guidance_scale=FINAL.guidance,
        generator=torch.Generator().manual_seed(made.seed),
        output_type="latent",
    ).latent
    prompts, first = film._prompts(), film._first_latent()
    assert_close("first latent", first, seen["first_latent"])
    latents = list(film._sampled(prompts, first))
    stage1 = torch.cat([part for _, part in latents], dim=2)
    assert_close("stage 1", stage1, expected)

    refiner = library_refiner(release / "SANA-WM_bidirectional" / "refiner")
    own = self_forcing.chunk_noise((CHANNELS, 3, 5), _REFINER_SEED, torch.float32, "cpu")
    monkeypatch.setattr(library_refiner_module, "randn_tensor", lambda *_, **__: own(slice(1, 4)))
    expected = refiner(stage1, made.prompt, fps=16, block_size=stage1.shape[2] - 1, output_type="latent")
    refined = list(film._refined(prompts, iter(latents)))
    assert_close("refiner", refined[0][1], expected)

    with torch.no_grad():
        decoded = library._decode_latents(expected)[0, :, 1:]
    frames = torch.from_numpy(np.concatenate(list(film._decoded(iter(refined)))))
    assert_close("pixels", frames / 255, ((decoded + 1) / 2).clamp(0, 1).permute(1, 2, 3, 0), 0.6 / 255)


def test_delivered_frame_i_is_the_picture_of_sample_i_plus_one(release, tmp_path, monkeypatch):
    """With latents that say which samples they hold, and a decoder that shows just that."""
    for preset in (FINAL, DRAFT):
        film, shooting = film_of(preset, release, tmp_path / preset.name)
        latents = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(1, CHANNELS, 4, 3, 5)
        parts = [(chunk, latents[:, :, chunk]) for chunk in film._chunks]
        monkeypatch.setattr(ReleasedModels, "decoder", lambda models: nullcontext(_decoder(models)))
        frames = np.concatenate(list(film._decoded(iter(parts))))
        assert frames.mean((1, 2, 3)).round().tolist() == list(range(1, SAMPLES)), preset.name


def _decoder(models):
    """In place of pixels, frames have the number of their sample as their level of gray."""

    class Causal(CausalDecoder):
        def __init__(self):
            pass

        def decode_next(self, latents, carry):
            return _numbered(latents, begins=carry is None), ()

    class Tiled:
        def decode(self, latents, first_frame=0):
            yield _numbered(latents, begins=True)[:, :, first_frame:]

    return Causal() if models._is_streaming else Tiled()


def _numbered(latents, begins):
    numbers = [8 * j - 7 + k for j in latents[0, 0, :, 0, 0].tolist() for k in range(8)]
    numbers = numbers[7:] if begins else numbers
    return torch.tensor(numbers).view(1, 1, -1, 1, 1).expand(1, 3, -1, 2, 2) / 255


def film_of(preset, release, folder):
    """A film whose stages can be looked at one by one."""
    job = job_of(folder, preset)
    made = job.shot()
    models = ReleasedModels(preset, "cpu", release)
    models.check(made)
    progress = Progress(job, threading.Event())
    progress.plan(dict.fromkeys(("prompts", "condition", "denoise", "refine", "render"), 1.0))
    first = read_first_frame(job.first_frame_png, preset.image_size)
    path = made.camera.fitted_to(preset.image_size)
    shooting = Shooting(made, path, first, FinishedChunks(job, {}, "cpu"), 0, progress)
    return ReleasedFilm(models, models._plan, shooting), shooting


def _noting(function, notes):
    def noted(first_latent, *rest):
        notes["first_latent"] = first_latent
        return function(first_latent, *rest)

    return noted


def library_pipeline(gemma, vae_folder):
    """diffusers' stage 1 with the miniature's weights."""
    transformer = SanaWMTransformer3DModel(
        in_channels=CHANNELS,
        num_layers=4,
        hidden_size=48,
        num_attention_heads=2,
        linear_head_dim=24,
        caption_channels=STAGE1.caption_channels,
        chunk_plucker_post_attn_blocks=4,
    )
    transformer.load_state_dict(stage1_weights(1))
    scheduler = FlowMatchEulerDiscreteScheduler(shift=9.8)
    tokenizer, encoder = AutoTokenizer.from_pretrained(gemma), Gemma2Model.from_pretrained(gemma)
    vae = AutoencoderKLLTX2Video.from_pretrained(vae_folder)
    pipeline = SanaWMPipeline(tokenizer, encoder.eval(), vae.eval(), transformer.eval(), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def library_refiner(folder):
    """diffusers' refiner over the miniature's files; its text encoder needs the names of the library."""
    gemma = write_gemma3(folder.parent.parent / "scratch", channels=CAPTION)
    pipeline = library_refiner_module.SanaWMLTX2Refiner(
        library_refiner_module.SanaWMLTX2RefinerTransformer3DModel.from_pretrained(
            folder / "transformer"
        ).eval(),
        LTX2TextConnectors.from_pretrained(folder / "connectors").eval(),
        AutoTokenizer.from_pretrained(folder / "text_encoder"),
        gemma.eval(),
        FlowMatchEulerDiscreteScheduler(shift=1.0),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_refiner_runs_with_the_adapter_that_the_preset_names(release, tmp_path):
    preset = replace(DRAFT, refiner_lora="style.safetensors")
    record = make(job_of(tmp_path / "missing", preset), release)
    assert record.state == "failed"
    assert "needs the adapter style.safetensors, which is not in" in record.reason
    linears = [f"transformer_blocks.{block}.attn1.to_{part}" for block in range(2) for part in "qkv"]
    path = write_adapter(release / "loras" / preset.refiner_lora, factors(dict.fromkeys(linears, (32, 32))))
    try:
        clips = {}
        for name, strength in (("off", 0.0), ("on", 1.0)):
            job = job_of(tmp_path / name, replace(preset, refiner_lora_strength=strength))
            record = make(job, release)
            assert record.state == "done", record.reason
            clips[name] = pixels(job)
        assert len(job.clip().model["refiner_lora"]) == 64, "its hash"
        assert np.abs(clips["on"].astype(int) - clips["off"]).mean() > 1
        write_adapter(path, factors({"blocks.0.q": (4, 4)}))
        record = make(job_of(tmp_path / "other", preset), release)
        assert record.state == "failed" and "which the refiner does not have" in record.reason
    finally:
        shutil.rmtree(release / "loras")


def test_stage_1_runs_with_the_adapter_that_the_preset_names(release, tmp_path):
    preset = replace(DRAFT, stage1_lora="mine.safetensors")
    width = stage1_weights(3)["blocks.0.attn.qkv.weight"].shape
    write_adapter(release / "loras" / preset.stage1_lora, factors({"blocks.0.attn.qkv": tuple(width)}))
    try:
        clips = {}
        for name, strength in (("off", 0.0), ("on", 1.0)):
            job = job_of(tmp_path / name, replace(preset, stage1_lora_strength=strength))
            record = make(job, release)
            assert record.state == "done", record.reason
            clips[name] = pixels(job)
        assert len(job.clip().model["stage1_lora"]) == 64, "its hash"
        assert np.abs(clips["on"].astype(int) - clips["off"]).mean() > 0.1
        write_adapter(
            release / "loras" / preset.stage1_lora, factors({"blocks.0.plucker_proj": (width[1],) * 2})
        )
        record = make(job_of(tmp_path / "other", preset), release)
        assert record.state == "failed" and "cannot have an adapter beside them" in record.reason
    finally:
        shutil.rmtree(release / "loras")


def test_an_adapter_that_is_replaced_under_its_name_is_loaded_anew(release, tmp_path):
    preset, shelf = replace(DRAFT, refiner_lora="style.safetensors"), ModelShelf("cpu", release)
    linears = dict.fromkeys(("transformer_blocks.0.attn1.to_q", "transformer_blocks.1.attn1.to_v"), (32, 32))
    connectors = {"text_embedding_projection.aggregate_embed": (8, 8)}
    made = []
    try:
        for seed, others in ((1, {}), (2, connectors)):
            pairs = factors({**linears, **others}, seed)
            new = write_adapter(release / "loras" / "new.safetensors", pairs)
            new.replace(new.with_name(preset.refiner_lora))
            made.append(job_of(tmp_path / str(seed), preset))
            record = run_job(made[-1], shelf, threading.Event())
            assert record.state == "done", record.reason
        first, second = (job.clip() for job in made)
        assert first.model["refiner_lora"] != second.model["refiner_lora"], "the record names the new file"
        assert not np.array_equal(*(pixels(job) for job in made))
        assert not any("connectors" in warning for warning in first.warnings)
        assert any("style.safetensors also changes the text connectors" in said for said in second.warnings)
    finally:
        shutil.rmtree(release / "loras")
