# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the embedded model takes for a second of clip, from the job folder to the finished mp4."""

from __future__ import annotations

import io
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from backend.projection.scene import RayScene
from backend.protocol import FPS, JobFolder, JobState, Preset, Shot, Source
from backend.training.moves import canonical_paths
from backend.training.render import render_frame
from backend.training.scenes import random_scene
from backend.worker import ModelShelf, run_job

PRESETS = Path(__file__).resolve().parents[1] / "presets" / "quality"
SCENE_SEED = 5


def run(quick: bool) -> list[dict]:
    """Both shipped sizes of the embedded model, models warm, 81 frames (quick: 17)."""
    frames = 17 if quick else 81
    shelf = ModelShelf("cpu")
    return [
        _measure(Preset.load(PRESETS / name), frames, shelf)
        for name in ("embedded.json", "embedded_1280.json")
    ]


def _measure(preset: Preset, frames: int, shelf: ModelShelf) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        job = orbit_job(Path(folder), preset, frames)
        shelf.get(preset)
        record = run_job(job, shelf, threading.Event())
        if record is None or record.state != JobState.DONE:
            raise RuntimeError(f"The bench job ended as {record}.")
        durations_s = job.clip().duration_s
    value = sum(durations_s.values()) / (frames / FPS)
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in durations_s.items())
    width, height = preset.image_size
    return {
        "name": f"demo_seconds_per_clip_second_{width}x{height}",
        "value": value,
        "unit": "s/s",
        "ours": value,
        "theirs": None,
        "target": None,
        "conditions": f"{frames} frames, CPU, {torch.get_num_threads()} torch threads, models warm, "
        f"network blend {preset.network_blend}, one run: {stages}",
    }


def orbit_job(jobs_root: Path, preset: Preset, frames: int) -> JobFolder:
    """A street of blocks and a camera that orbits: the same shot in every run."""
    rng = np.random.default_rng(SCENE_SEED)
    scene = random_scene(rng)
    rays = RayScene(scene.blockout)
    path = canonical_paths(rng, scene, rays, frames)["orbit left"].fitted_to(preset.image_size)
    first = render_frame(scene, rays, path, 0, preset.image_size)
    png = io.BytesIO()
    Image.fromarray((first * 255 + 0.5).clip(0, 255).astype(np.uint8)).save(png, "PNG")
    source = Source("", "Scene", "Camera", 1, frames, float(FPS))
    shot = Shot("bench", "Bench", path, "", "", 1, preset, source, scene.blockout)
    return JobFolder.create(jobs_root, shot, png.getvalue())
