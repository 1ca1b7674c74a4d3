# SPDX-License-Identifier: GPL-3.0-or-later
"""Footage with solved cameras: every solver's files, the right pose at the right picture, and every refusal."""

import json

import numpy as np
import pytest
from PIL import Image

from backend.__main__ import main
from backend.data.shards import ShardReader
from backend.protocol import CameraPath
from backend.protocol.camera_files import write_camera
from backend.protocol.camera_recorded import rotations_from
from backend.protocol.clip_filter import why_unreliable
from backend.video import ClipWriter

SIZE, LENS = (128, 64), (100.0, 100.0, 64.0, 32.0)
FILES = {"colmap": ("COLMAP", "walk/sparse/0"), "tum": ("TUM", "walk.tum"),
         "transforms": ("TRANSFORMS", "walk/transforms.json"), "sana": ("SANA_WM", "walk_pose.npy")}  # fmt: skip


def path_of(count: int, fps: float = 32.0) -> CameraPath:
    """A walk at 0.5 m/s that pans at 10 degrees a second."""
    time = np.arange(count) / fps
    half = np.radians(10 * time) / 2
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, :3] = rotations_from(np.stack([np.cos(half), 0 * half, 0 * half, np.sin(half)], axis=1))
    c2w[:, :3, :3] = c2w[:, :3, :3] @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    c2w[:, :3, 3] = np.outer(0.5 * time, [0.6, 0.8, 0]) + [0, 0, 1.5]
    return CameraPath(c2w, np.tile(LENS, (count, 1)), SIZE)


def grey(number: int) -> int:
    return 20 + 4 * number


def write_pictures(folder, numbers, size=SIZE):
    """Each of one grey that tells its number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.new("RGB", size, (grey(number),) * 3).save(folder / f"frame_{number:06d}.png")


def make(folder, poses, *more, out="set"):
    """Exit code of `data footage` with clips of 9 frames, and the dataset."""
    options = ["--poses", poses, "--codec", "none", "--size", "64x32", "--frames", "9", "--fps", "32", *more]
    dataset = folder.parent / out
    return main(["data", "footage", str(folder), "--out", str(dataset), *options]), dataset


def rejected(dataset) -> dict[str, str]:
    return {entry["name"]: entry["reason"] for entry in json.loads((dataset / "rejected.json").read_text())}


@pytest.mark.parametrize("poses", FILES)
def test_each_picture_keeps_its_own_pose(poses, tmp_path):
    """Pictures at 32 a second with the poses of every solver: each second picture, with its pose and lens."""
    footage, camera = tmp_path / "footage", path_of(40)
    pictures = "images" if poses in ("colmap", "transforms") else ""
    write_pictures(footage / "walk" / pictures, range(40))
    (footage / "walk.txt").write_text("a walk\nthrough greys\n")
    kind, place = FILES[poses]
    (footage / place).parent.mkdir(parents=True, exist_ok=True)
    write_camera(footage / place, kind, camera)
    more = ["--lens", "100,100,64,32"] if poses == "tum" else []
    # Each picture is one even grey, so the validation finds them empty: 1, and the dataset is there all the same.
    code, dataset = make(footage, poses, *more, "--metres-per-unit", "2")
    assert code == 1
    reader = ShardReader(dataset)
    assert reader.names == ["walk-00000", "walk-00009"] and not rejected(dataset)
    for index, start in enumerate((0, 9)):
        clip = reader[index]
        numbers = 2 * np.arange(start, start + 9)
        assert clip.caption == "a walk through greys"
        np.testing.assert_array_equal(clip.frames[:, 0, 0, 0], [grey(number) for number in numbers])
        expected = camera.c2w[numbers].copy()
        expected[:, :3, 3] *= 2
        np.testing.assert_allclose(clip.c2w, expected, atol=1e-6)
        np.testing.assert_allclose(clip.intrinsics, np.tile([50, 50, 32, 16], (9, 1)), rtol=1e-6)


def test_a_film_with_as_many_poses_as_frames(tmp_path):
    footage = tmp_path / "footage"
    footage.mkdir()
    frames = np.stack([np.full((64, 128, 3), grey(number), np.uint8) for number in range(40)])
    with ClipWriter(tmp_path / "preview", SIZE, 32, {}) as writer:
        writer.write(frames)
        writer.finish(footage / "walk.mp4")
    write_camera(footage / "walk.colmap", "COLMAP", path_of(40))
    _, dataset = make(footage, "colmap")
    reader = ShardReader(dataset)
    assert reader.names == ["walk-00000", "walk-00009"]
    shown = reader[1].frames[:, 16, 32, 0].numpy().astype(int)
    np.testing.assert_allclose(shown, [grey(2 * number) for number in range(9, 18)], atol=2)
    np.testing.assert_allclose(reader[1].c2w[0], path_of(40).c2w[18], atol=1e-9)


def test_pictures_without_a_pose_split_the_footage(tmp_path):
    """COLMAP leaves pictures out: names say which, and no clip goes over the gap."""
    footage = tmp_path / "footage"
    write_pictures(footage / "walk" / "images", range(52))
    write_camera(footage / "walk" / "sparse", "COLMAP", path_of(52))
    images = footage / "walk" / "sparse" / "images.txt"
    lines = images.read_text().splitlines()
    images.write_text("\n".join(lines[: 2 * 21] + lines[2 * 25 :]) + "\n")  # 21 to 24 are lost
    _, dataset = make(footage, "colmap")
    reader = ShardReader(dataset)
    assert reader.names == ["walk-00000", "walk-00013"]
    assert reader[1].frames[0, 0, 0, 0] == grey(26)
    np.testing.assert_allclose(reader[1].c2w[0], path_of(52).c2w[26], atol=1e-9)


def test_a_late_start_of_a_tum_trajectory_is_told_by_its_times(tmp_path):
    footage = tmp_path / "footage"
    write_pictures(footage / "walk", range(40))
    write_camera(footage / "walk.tum", "TUM", path_of(40))
    lines = (footage / "walk.tum").read_text().splitlines()[11:]  # the first ten are lost
    lines = [f"{(number + 10) / 32} {line.split(maxsplit=1)[1]}" for number, line in enumerate(lines)]
    (footage / "walk.tum").write_text("\n".join(lines))
    _, dataset = make(footage, "tum", "--lens", "100,100,64,32")
    clip = ShardReader(dataset)[0]
    assert clip.name == "walk-00005" and clip.frames[0, 0, 0, 0] == grey(10)
    np.testing.assert_allclose(clip.c2w[0], path_of(40).c2w[10], atol=1e-9)


def changed(**changes) -> CameraPath:
    """Three seconds at 16 fps with one thing wrong."""
    camera = path_of(49, 16.0)
    c2w, intrinsics = camera.c2w.copy(), camera.intrinsics.copy()
    if "fov" in changes:
        intrinsics[:, :2] = 64 / np.tan(np.radians(changes["fov"]) / 2)
    if "zoom" in changes:
        intrinsics[:, :2] *= np.linspace(1, changes["zoom"], 49)[:, None]
    if "jump_m" in changes:
        c2w[20:, :3, 3] += [changes["jump_m"], 0, 0]
    if "scale" in changes:
        c2w[32:, :3, 3] = c2w[31, :3, 3] + changes["scale"] * (c2w[32:, :3, 3] - c2w[31, :3, 3])
    return CameraPath(c2w, intrinsics, SIZE)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({}, ""),
        ({"fov": 121}, "The horizontal field of view is 121.0 degrees"),
        ({"fov": 24}, "The horizontal field of view is 24.0 degrees"),
        ({"zoom": 1.08}, ""),
        ({"zoom": 1.2}, "The focal length changes by 20%"),
        ({"jump_m": 2.0}, "The camera jumps 1.25 s into the clip"),
        ({"jump_m": 0.3}, "The camera jumps 0.32 m in one frame, 1.25 s into the clip"),
        ({"jump_m": 0.05}, ""),
        (
            {"scale": 8.0},
            "The scale of the translation changes: the camera goes 0.50 m/s and then 4.00 m/s, 2 s",
        ),
        ({"scale": 2.0}, ""),
    ],
)
def test_cameras_that_no_model_should_learn_from(wrong, reason):
    found = why_unreliable(changed(**wrong))
    assert found.startswith(reason) and bool(found) == bool(reason), found


def test_a_camera_that_starts_from_rest_and_stops_is_taken():
    time = np.linspace(0, 1, 81)
    camera = path_of(81, 16.0)
    c2w = camera.c2w.copy()
    c2w[:, :3, 3] = np.outer(
        4 * np.clip(3 * time - 1, 0, 1) ** 2 * (3 - 2 * np.clip(3 * time - 1, 0, 1)), [0, 1, 0]
    )
    assert why_unreliable(CameraPath(c2w, camera.intrinsics, SIZE)) == ""


def wrong_size(footage):
    write_camera(footage / "walk" / "sparse", "COLMAP", path_of(40))
    write_pictures(footage / "walk" / "images", range(40), (64, 64))


def other_pictures(footage):
    write_camera(footage / "walk" / "sparse", "COLMAP", path_of(40))
    for path in (footage / "walk" / "images").iterdir():
        path.rename(path.with_name(path.name.replace("frame", "shot")))


def binary(footage):
    (footage / "walk" / "sparse").mkdir()
    (footage / "walk" / "sparse" / "images.bin").touch()


def distorted(footage):
    write_camera(footage / "walk" / "sparse", "COLMAP", path_of(40))
    (footage / "walk" / "sparse" / "cameras.txt").write_text("1 OPENCV 128 64 100 100 64 32 0.1 0 0 0\n")


def zooming(footage):
    camera = path_of(40)
    zoom = camera.intrinsics * np.linspace(1, 2, 40)[:, None]
    write_camera(footage / "walk" / "sparse", "COLMAP", CameraPath(camera.c2w, zoom, SIZE))


@pytest.mark.parametrize(
    ("spoil", "more", "reason"),
    [
        (lambda footage: None, [], "It has no colmap poses; looked for walk.colmap, walk/sparse/0"),
        (binary, [], "is binary; write it as text: colmap model_converter"),
        (distorted, [], "camera model 'OPENCV'; undistort the images"),
        (wrong_size, [], "Its pictures are 64 x 64, and its poses are of pictures of 128 x 64"),
        (other_pictures, [], "they name frame_000000.png, and there is shot_000000.png"),
        (zooming, [], "The focal length changes by"),
        (
            zooming,
            ["--frames", "81"],
            "It gives 20 frames at 16 fps, and a clip needs 81; --frames 17 would do.",
        ),
        (zooming, ["--fps", "12"], "It has 12 pictures a second, and training needs at least 16"),
    ],
)
def test_footage_that_is_not_taken_is_reported_with_its_reason(tmp_path, capsys, spoil, more, reason):
    footage = tmp_path / "footage"
    write_pictures(footage / "walk" / "images", range(40))
    spoil(footage)
    code, dataset = make(footage, "colmap", *more)
    assert code == 1
    reasons = rejected(dataset)
    assert reasons and all(reason in said for said in reasons.values()), reasons
    said = capsys.readouterr()
    assert reason in said.err and "No clip was taken." in said.err
    assert reason in (dataset / "report.txt").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere", "--poses", "tum"], "There is no folder nowhere"),
        (
            [".", "--poses", "tum"],
            "holds neither films (.mp4, .mov, .mkv, .webm, .avi) nor folders of pictures",
        ),
        ([".", "--poses", "tum", "--lens", "1,2,3"], "1,2,3 is no lens"),
    ],
)
def test_a_wrong_command_writes_nothing(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["data", "footage", *words, "--out", "set"])
    except SystemExit as end:
        code = end.code
    assert code == 2 and sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
