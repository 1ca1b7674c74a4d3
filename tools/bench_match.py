# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to measure whether a clip of a minute follows its camera."""

from __future__ import annotations

import time
from dataclasses import replace

import cv2
import numpy as np

from backend.camera_match import match_camera
from backend.projection.scene import RayScene
from backend.protocol import CameraPath
from backend.training.moves import canonical_paths
from backend.training.render import render_frame
from backend.training.scenes import PATTERNS, random_scene

from .bench_demo import SCENE_SEED

SIZE = (640, 352)
FRAMES, QUICK_FRAMES = 961, 65
# Of an orbit over 97 frames, whose pace suits the model, the first 33.
ORBIT, RENDERED = 97, 33
TARGET_MS = 25.0


def run(quick: bool) -> list[dict]:
    """961 frames (quick: 65): an orbit, forth and back."""
    frames = QUICK_FRAMES if quick else FRAMES
    rng = np.random.default_rng(SCENE_SEED)
    scene = random_scene(rng)
    # Every surface painted, so that there are as many points to follow as the tracker takes.
    everywhere = np.ones(len(scene.look.pattern))
    look = replace(scene.look, pattern=PATTERNS.index("bricks") * everywhere, period_m=0.8 * everywhere)
    scene = replace(scene, look=look)
    rays = RayScene(scene.blockout)
    orbit = canonical_paths(rng, scene, rays, ORBIT)["orbit left"].fitted_to(SIZE)
    pictures = [
        (render_frame(scene, rays, orbit, sample, SIZE) * 255 + 0.5).clip(0, 255).astype(np.uint8)
        for sample in range(RENDERED)
    ]
    there_and_back = RENDERED - 1 - np.abs(np.arange(frames) % (2 * RENDERED - 2) - (RENDERED - 1))
    path = CameraPath(orbit.c2w[there_and_back], orbit.intrinsics[there_and_back], SIZE)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        began_s = time.process_time()
        match = match_camera((pictures[sample] for sample in there_and_back), scene.blockout, path, 0)
        value = 1000 * (time.process_time() - began_s) / frames
    finally:
        cv2.setNumThreads(threads)
    return [
        {
            "name": "match_ms_per_frame",
            "value": value,
            "unit": "ms",
            "ours": value,
            "theirs": None,
            "target": TARGET_MS,
            "conditions": f"{frames} frames at {SIZE[0]}x{SIZE[1]}, CPU time, one OpenCV thread, frames rendered "
            f"before; {match.in_words()}",
        }
    ]
