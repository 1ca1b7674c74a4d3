# SPDX-License-Identifier: GPL-3.0-or-later
"""The released model's whole way, from job folder to clip, on a miniature of the release in its own layout."""

import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest

from backend.__main__ import main
from backend.films.released_film import ReleasedFilm
from backend.films.released_models import ReleasedModels
from backend.films.shooting import Shooting
from backend.finished_chunks import FinishedChunks
from backend.progress import Progress
from backend.protocol import JobFolder, Preset
from backend.video import read_frames
from backend.worker import ModelShelf, run_job
from tests.miniature_release import accept_licences, write_release
from tests.worker.conftest import first_frame_png, shot

SIZE, SAMPLES = (160, 96), 25
FINAL = Preset("Final", "For tests.", "sana_wm", SIZE, steps=3, guidance=2.0, refiner=True)
TEACHER = replace(FINAL, name="Teacher", variant="chunk_causal")
DRAFT = replace(FINAL, name="Draft", variant="streaming", step_list=(1000, 960, 889, 727, 0), guidance=1.0)
PRESETS = {"final": FINAL, "teacher": TEACHER, "draft": DRAFT}


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """The miniature release, with accepted licences and the student's checkpoint converted."""
    root = accept_licences(write_release(tmp_path_factory.mktemp("weights")))
    assert main(["weights", "convert", "--weights", str(root)]) == 0
    return root


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
        "was not encoded before, and its text encoder (gemma_2_2b) is not among the weights"
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
        "the one of the bidirectional",
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


def film_of(preset, release, folder, samples=SAMPLES, **changes):
    """A film whose stages can be looked at one by one."""
    job = job_of(folder, preset, **changes)
    made = job.shot()
    models = ReleasedModels(preset, "cpu", release)
    models.check(made)
    progress = Progress(job, threading.Event())
    progress.plan(models.costs(made, samples) | {"denoise": 1.0, "refine": 1.0})
    path = made.camera.fitted_to(preset.image_size)
    from backend.conditioning.first_frame import read_first_frame

    first = read_first_frame(job.first_frame_png, preset.image_size)
    shooting = Shooting(made, path, first, FinishedChunks(job, {}, "cpu"), 0, progress)
    return models, ReleasedFilm(models, models._plan, shooting), shooting
