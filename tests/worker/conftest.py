# SPDX-License-Identifier: GPL-3.0-or-later
"""A small shot: three boxes on a floor, one of them moving, and a camera that drives past."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from backend.projection.scene import RayScene
from backend.protocol import Blockout, CameraPath, JobFolder, Preset, Shot, Source

BOX = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)], np.float32)
BOX_FACES = np.array(
    [
        [0, 1, 3],
        [0, 3, 2],
        [4, 6, 7],
        [4, 7, 5],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [1, 5, 7],
        [1, 7, 3],
    ]
)
OBJECTS = (
    ("floor", (12, 30, 0.02), (0, 10, -0.02), (0.55, 0.5, 0.42)),
    ("red", (1, 1, 2), (-1.2, 5, 0), (0.8, 0.2, 0.15)),
    ("blue", (1, 1, 1), (1.1, 6, 0), (0.15, 0.3, 0.8)),
    ("far", (2, 1, 3), (0.4, 11, 0), (0.3, 0.6, 0.3)),
)


def blockout(samples: int) -> Blockout:
    motion = np.tile(np.eye(4), (1, samples, 1, 1))
    motion[0, :, 0, 3] = np.linspace(0, 0.3, samples)
    return Blockout(
        vertices=np.concatenate([BOX * scale + place for _, scale, place, _ in OBJECTS]),
        faces=np.concatenate([BOX_FACES + 8 * i for i in range(len(OBJECTS))]),
        face_object=np.repeat(np.arange(len(OBJECTS)), len(BOX_FACES)),
        object_names=np.array([name for name, *_ in OBJECTS]),
        object_colors=np.array([color for *_, color in OBJECTS]),
        moving=np.array([2]),
        motion=motion,
        background=np.array([0.6, 0.7, 0.9]),
    )


def camera(samples: int, size: tuple[int, int]) -> CameraPath:
    """Drives 0.02 m a frame to the right and forward, looking along +y."""
    c2w = np.tile(np.eye(4), (samples, 1, 1))
    c2w[:, :3, :3] = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    c2w[:, :3, 3] = [0, 0, 1.2] + np.arange(samples)[:, None] * [0.02, 0.02, 0]
    intrinsics = np.tile([size[0] * 0.9, size[0] * 0.9, size[0] / 2, size[1] / 2], (samples, 1))
    return CameraPath(c2w, intrinsics, size)


def shot(samples: int = 17, size: tuple[int, int] = (160, 96), **changes) -> Shot:
    values = {
        "code": "010_0030",
        "name": "Drive past",
        "camera": camera(samples, size),
        "prompt": "",
        "negative_prompt": "",
        "seed": 7,
        "preset": Preset("test", "For tests.", "embedded", size, steps=1, guidance=1.0, network_blend=0.5),
        "source": Source("", "Scene", "Camera", 1, 1 + samples * 24 / 16, 24.0),
        "blockout": blockout(samples),
    }
    return Shot(**{**values, **changes})


def first_frame_png(of: Shot) -> bytes:
    path = of.camera
    seen = RayScene(of.blockout).cast(path.c2w[0], path.intrinsics[0], path.image_size, 0).color
    file = io.BytesIO()
    Image.fromarray((seen * 255 + 0.5).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def make_job():
    def make(jobs_root, queue=True, **changes) -> JobFolder:
        made = shot(**changes)
        return JobFolder.create(jobs_root, made, first_frame_png(made), queue=queue)

    return make


@pytest.fixture
def backend(pytestconfig, monkeypatch):
    """Starts `python -m backend ...`; whatever still runs at the end of the test is killed."""
    running = []

    def start(*words, **options) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "backend", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **{"cwd": pytestconfig.rootpath, **options},
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()
