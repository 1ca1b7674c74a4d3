# SPDX-License-Identifier: GPL-3.0-or-later
"""Shots, presets, cameras and blockouts survive the disk exactly, and bad ones are refused in words."""

import dataclasses
import json
import os
import struct
import zlib

import numpy as np
import pytest

from backend.protocol import (
    Blockout,
    CameraPath,
    Clip,
    JobFolder,
    Preset,
    ProtocolError,
    Shot,
    Source,
    cover_crop,
    list_jobs,
)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"".join(b"\0" + b"\x40\x80\xc0" * width for _ in range(height)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def camera(frames: int = 9, size: tuple[int, int] = (96, 64)) -> CameraPath:
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, 0, 3] = np.linspace(0, 1 / 3, frames)
    return CameraPath(c2w, np.tile([80.1, 80.2, size[0] / 2 + 0.3, size[1] / 2], (frames, 1)), size)


def blockout(frames: int = 9) -> Blockout:
    return Blockout(
        vertices=[[0, 0, 0], [1, 0, 0], [0, 1, 1 / 3]],
        faces=[[0, 1, 2]],
        face_object=[0],
        object_names=["Würfel"],
        object_colors=[[0.1, 0.2, 0.3]],
        moving=[0],
        motion=np.tile(np.eye(4), (1, frames, 1, 1)),
        background=[0.2, 0.3, 0.4],
    )


def preset(**changes) -> Preset:
    return Preset(
        **{"name": "Preview", "description": "Small.", "model": "embedded", "image_size": (96, 64)} | changes
    )


def shot(**changes) -> Shot:
    source = Source("//street.blend", "Scene", "Camera", 1.0, 24.0, 24.0, "4f1c")
    values = {
        "code": "010_0030",
        "name": "Ümlaut",
        "camera": camera(),
        "prompt": "a street\nat dusk",
        "negative_prompt": "",
        "seed": 7,
        "preset": preset(),
        "source": source,
        "blockout": blockout(),
    }
    return Shot(**values | changes)


def test_a_job_gives_back_exactly_the_shot_it_was_made_from(tmp_path):
    job = JobFolder.create(tmp_path / "jobs", shot(), png(96, 64))
    assert job.name == "010_0030-v001"
    assert job.shot() == shot()
    assert job.state().state == "queued"
    moved = tmp_path / "elsewhere"
    os.rename(tmp_path / "jobs", moved)
    assert JobFolder(moved / "010_0030-v001").shot() == shot()


def test_each_job_of_a_shot_gets_the_next_version(tmp_path):
    names = [JobFolder.create(tmp_path, shot(), png(96, 64), queue=False).name for _ in range(3)]
    other = JobFolder.create(tmp_path, shot(code="020"), png(96, 64))
    assert [*names, other.name] == ["010_0030-v001", "010_0030-v002", "010_0030-v003", "020-v001"]
    assert [job.take for job in list_jobs(tmp_path)] == [1, 2, 3, 1]
    assert list_jobs(tmp_path)[0].state() is None


def test_a_shot_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ProtocolError, match="first frame"):
        JobFolder.create(tmp_path, shot(), png(95, 64))
    with pytest.raises(UnicodeEncodeError):
        JobFolder.create(tmp_path, shot(prompt="half a character: \ud83d"), png(96, 64))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda job: job.camera_npz.unlink(), "camera.npz is missing"),
        (lambda job: job.camera_npz.write_bytes(b"PK\3\4 torn"), "camera.npz .* is damaged"),
        (
            lambda job: np.savez(job.camera_npz, c2w=np.eye(4)),
            "camera.npz .* lacks intrinsics, image_size; export",
        ),
        (lambda job: job.first_frame_png.unlink(), "first_frame.png is missing"),
        (lambda job: job.first_frame_png.write_bytes(png(64, 64)), "64x64 pixels, but the camera"),
        (lambda job: job.first_frame_png.write_bytes(b"GIF89a"), "not a PNG"),
        (lambda job: job.blockout_npz.write_bytes(b""), "blockout.npz .* is damaged"),
        (lambda job: job.shot_json.write_text("{"), "shot.json .* not readable JSON"),
        (lambda job: job.shot_json.write_text("[]"), "schema version None"),
        (lambda job: edit(job, schema_version=2), "schema version 2"),
        (lambda job: edit(job, sed=3), "unknown entries: sed"),
        (lambda job: edit(job, camera={}), "unknown entries: camera"),
        (lambda job: edit(job, seed="7"), "seed must be a whole number"),
        (lambda job: edit(job, seed=-1), "seed must lie between"),
        (lambda job: edit(job, code="../x"), "shot code"),
        (lambda job: edit(job, preset={"name": "x"}), "preset lacks: description"),
        (lambda job: edit(job, source=None), "source must be a JSON object"),
        (lambda job: edit_source(job, request_id=7), "source: request_id must be text"),
    ],
)
def test_a_job_edited_by_hand_is_refused_with_a_sentence(tmp_path, damage, sentence):
    job = JobFolder.create(tmp_path, shot(), png(96, 64))
    damage(job)
    with pytest.raises(ProtocolError, match=sentence):
        job.shot()


def edit(job: JobFolder, **changes) -> None:
    job.shot_json.write_text(json.dumps(json.loads(job.shot_json.read_text()) | changes))


def edit_source(job: JobFolder, **changes) -> None:
    edit(job, source=json.loads(job.shot_json.read_text())["source"] | changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_size": (100, 64)}, "multiples of 32"),
        ({"variant": "fast"}, "variant 'fast'"),
        ({"precision": "int8"}, "precision 'int8'"),
        ({"steps": 0}, "steps"),
        ({"guidance": 0.5}, "guidance"),
        ({"network_blend": 1.5}, "network blend"),
        ({"step_list": (1000, 0)}, "only the streaming variant"),
        ({"variant": "streaming"}, "must fall from at most 1000 to 0"),
        (
            {"variant": "streaming", "step_list": (1000, 960, 889, 727)},
            "to 0, like 1000, 960, 889, 727, 0; it is",
        ),
        ({"variant": "streaming", "step_list": (0,)}, "must fall"),
        ({"variant": "streaming", "step_list": (727, 889, 0)}, "must fall"),
        ({"variant": "streaming", "step_list": (1001, 0)}, "at most 1000"),
        ({"variant": "streaming", "step_list": "1000, 0"}, "must fall"),
        ({"variant": "streaming", "step_list": (1000, 0), "guidance": 5.0}, "set guidance to 1"),
    ],
)
def test_a_preset_that_makes_no_sense_is_refused(changes, sentence):
    with pytest.raises(ProtocolError, match=sentence):
        preset(**changes)


def test_a_preset_survives_its_file(tmp_path):
    path = tmp_path / "preview.json"
    for one in (preset(), preset(variant="streaming", step_list=(1000, 727.5, 0), guidance=1.0)):
        path.write_text(json.dumps(one.to_record()))
        assert Preset.load(path) == one


def test_poses_that_are_no_camera_are_refused():
    good = camera()
    scaled = good.c2w.copy()
    scaled[3, :3, :3] *= 1.01
    mirrored = good.c2w.copy()
    mirrored[:, 0, 0] = -1
    for c2w, sentence in ((scaled, "scaled"), (mirrored, "mirrored"), (good.c2w * np.nan, "finite")):
        with pytest.raises(ProtocolError, match=sentence):
            CameraPath(c2w, good.intrinsics, good.image_size)


def test_fitting_a_camera_keeps_every_ray_on_its_pixel():
    path = camera(size=(1920, 1080))
    fitted = path.fitted_to((1280, 704))
    crop = cover_crop((1920, 1080), (1280, 704))
    assert crop.resized == (1280, 720) and (crop.left, crop.top) == (0, 8)
    point = np.array([0.2, -0.1, 2.0])
    pixel = path.intrinsics[0, :2] * point[:2] / point[2] + path.intrinsics[0, 2:]
    fitted_pixel = fitted.intrinsics[0, :2] * point[:2] / point[2] + fitted.intrinsics[0, 2:]
    np.testing.assert_allclose(fitted_pixel, pixel * 2 / 3 - [0, 8], atol=1e-9)


def test_a_clip_record_survives_its_file(tmp_path):
    clip = Clip(
        81, (640, 352), 0, preset().to_record(), 7, {"net": "ab" * 32}, {"torch": "2.13"}, {"decode": 1.5}
    )
    clip.save(tmp_path / "clip.json")
    loaded = Clip.load(tmp_path / "clip.json")
    assert loaded.ai_generated and loaded.fps == 16
    assert (loaded.image_size, loaded.model, loaded.duration_s) == (
        clip.image_size,
        clip.model,
        clip.duration_s,
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"faces": [[0, 1, 3]]}, "faces point outside"),
        ({"face_object": [1]}, "face_object point outside"),
        ({"vertices": np.full((3, 3), np.nan)}, "not finite"),
        ({"object_colors": [[0.1, 0.2]]}, "object_colors must be of shape"),
    ],
)
def test_a_blockout_that_contradicts_itself_is_refused(changes, sentence):
    with pytest.raises(ProtocolError, match=sentence):
        dataclasses.replace(blockout(), **changes)


def test_motion_must_last_as_long_as_the_camera():
    with pytest.raises(ProtocolError, match="17 samples but the camera over 9"):
        shot(blockout=blockout(frames=17))


def test_an_empty_blockout_survives_its_file(tmp_path):
    Blockout.empty().save(tmp_path / "blockout.npz")
    assert Blockout.load(tmp_path / "blockout.npz") == Blockout.empty()
