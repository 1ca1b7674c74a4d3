# SPDX-License-Identifier: GPL-3.0-or-later
"""Datasets from the command line: generated scenes, latents, validation and contact sheets."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from backend.__main__ import main
from backend.data.blockout import BlockoutSettings, make_clip
from backend.data.codecs import LinearClips, check_size, load_codec
from backend.data.shards import ShardReader, clips_in
from backend.data.validate import validate
from backend.models.vae.ltx2 import encode_frames, load_vae
from backend.protocol import ProtocolError
from backend.protocol.weights_licences import LICENCES, accept
from tests.vae_reference import write_vae

SIZE = (64, 32)
SETTINGS = BlockoutSettings(seed=4, frames=9, size=SIZE, depth=True)


def blockout(folder, *more) -> int:
    options = ["--seed", "4", "--frames", "9", "--size", "64x32", "--out", str(folder), *more]
    return main(["data", "blockout", *options])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three generated clips in latents."""
    folder = tmp_path_factory.mktemp("made") / "set"
    assert blockout(folder, "--clips", "3") == 0
    return folder


def test_latents_show_what_was_rendered(made):
    codec, reader = LinearClips(), ShardReader(made)
    for index in range(3):
        clip, source = reader[index], make_clip(SETTINGS, index)
        shown = codec.decode(clip.latents).astype(float)
        assert 20 * np.log10(255 / np.sqrt(np.mean((shown - source.frames) ** 2))) > 24, "dB"
        assert torch.equal(clip.c2w, torch.from_numpy(source.camera.c2w))
        assert torch.equal(clip.depth, torch.from_numpy(source.depth_m))
        assert clip.caption == source.caption and clip.origin["move"] in clip.caption.lower()


def test_depth_and_poses_agree_between_frames():
    """What a still pixel shows in one frame lies where another frame's depth says, and moving things do not."""
    moves, moving = set(), 0
    for index in (1, 2, 6):
        clip = make_clip(BlockoutSettings(seed=4, frames=9, size=(128, 64), depth=True), index)
        moves.add(clip.origin["move"])
        moving += clip.origin["moving_objects"] > 0
        depth = clip.depth_m.astype(np.float64)
        v, u = np.nonzero(np.isfinite(depth[0]))
        fx, fy, cx, cy = clip.camera.intrinsics[0]
        rays = np.stack([(u + 0.5 - cx) / fx, (v + 0.5 - cy) / fy, np.ones(len(u))], axis=-1)
        world = rays * depth[0][v, u][:, None] @ clip.camera.c2w[0, :3, :3].T + clip.camera.c2w[0, :3, 3]
        local = (world - clip.camera.c2w[8, :3, 3]) @ clip.camera.c2w[8, :3, :3]
        fx, fy, cx, cy = clip.camera.intrinsics[8]
        x, y = fx * local[:, 0] / local[:, 2] + cx, fy * local[:, 1] / local[:, 2] + cy
        inside = (local[:, 2] > 0) & (x > 0) & (x < 128) & (y > 0) & (y < 64)
        there = depth[8][y[inside].astype(int), x[inside].astype(int)]
        ratio = there / local[inside, 2]
        # What comes before a point makes it nearer; further it gets only where something moved, and at edges.
        assert (np.abs(ratio - 1) < 0.06).mean() > 0.65, f"clip {index}: {clip.origin}"
        assert (ratio < 1.06).mean() > 0.9, f"clip {index}: {clip.origin}"
    assert len(moves - {"a free camera move"}) > 1 and 0 < moving < 3


def test_two_processes_go_on_with_what_one_began(made, tmp_path):
    assert blockout(tmp_path / "set", "--clips", "1") == 0
    assert blockout(tmp_path / "set", "--clips", "3", "--processes", "2") == 0
    first, second = ShardReader(made), ShardReader(tmp_path / "set")
    assert sorted(second.names) == first.names
    for index, name in enumerate(first.names):
        again = second[second.names.index(name)]
        assert torch.equal(first[index].latents, again.latents) and torch.equal(
            first[index].depth, again.depth
        )


def test_other_settings_for_the_same_dataset_are_refused(made, capsys):
    assert blockout(made, "--clips", "4", "--no-depth") == 2
    assert "begun with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda part: part["c2w"][3, :3, :3].mul_(1.02), "scaled, sheared or mirrored"),
        (lambda part: part["c2w"][3, :3, 0].neg_(), "scaled, sheared or mirrored"),
        (lambda part: part["c2w"][3, 0, 3].fill_(torch.nan), "not finite"),
        (lambda part: part["intrinsics"][:, :2].mul_(8), "field of view"),
        (
            lambda part: part["latents"][5, 1, 0, 0].fill_(torch.inf),
            "latents contain numbers that are not finite",
        ),
        (lambda part: part["latents"].zero_(), "first frame is one even colour"),
        (lambda part: part["depth"][0, 0, 0].fill_(-1), "no distances"),
        (lambda part: part.update(c2w=part["c2w"][:8], intrinsics=part["intrinsics"][:8]), "has 8 poses"),
        (lambda part: part.update(depth=part["depth"][:, 1:]), "Its depth are (9, 31, 64)"),
        (lambda part: part.pop("latents"), "latents are missing"),
    ],
)
def test_validation_finds_what_is_broken_and_names_the_clip(made, tmp_path, spoil, sentence):
    shutil.copytree(made, folder := tmp_path / "set")
    shard = folder / "00000.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(shard).items()}
    said, name = clips_in(shard), "blockout-000001"
    part = {key.partition(".")[2]: tensors.pop(key) for key in list(tensors) if key.startswith(f"{name}.")}
    spoil(part)
    tensors |= {f"{name}.{key}": tensor.contiguous() for key, tensor in part.items()}
    save_file(tensors, shard, metadata={"clips": json.dumps(said)})
    assert main(["data", "validate", str(folder)]) == 1
    report = json.loads((folder / "report.json").read_text())
    assert not report["is_sound"] and {clip for clip, _ in report["problems"]} == {name}
    assert any(sentence in said for _, said in report["problems"])
    assert f"{name}: {report['problems'][0][1]}" in (folder / "report.txt").read_text()


def test_validation_of_a_sound_dataset_says_what_it_holds(made, capsys):
    assert main(["data", "validate", str(made)]) == 0
    said = capsys.readouterr().out
    assert "The dataset set is sound." in said and "9 frames, 0.5 s" in said and "64 x 32" in said


def test_a_lost_shard_is_a_problem(made, tmp_path):
    shutil.copytree(made, tmp_path / "set")
    (tmp_path / "set" / "00000.safetensors").unlink()
    report = validate(tmp_path / "set", LinearClips())
    assert report.problems == [("", "It says 3 clips in 1 shards, and has 0 in 0.")]


def test_sheets_show_every_clip(made):
    with Image.open(made / "sheets" / "000.png") as page:
        picture = np.asarray(page.convert("RGB")).astype(float)
    rows = np.array_split(picture, 3)
    assert min(row.std() for row in rows) > 10, "three clips, three rows"
    shutil.rmtree(made / "sheets")
    assert main(["data", "sheet", str(made), "--clips", "2"]) == 0
    with Image.open(made / "sheets" / "000.png") as page:
        assert page.height < 0.75 * picture.shape[0]


def test_latents_of_the_ltx2_autoencoder(tmp_path, capsys):
    weights = tmp_path / "weights"
    write_vae(weights / "SANA-WM_bidirectional" / "vae", 6, causal=False)
    command = ["--clips", "1", "--no-depth", "--codec", "ltx2", "--size", "64x64"]
    assert blockout(tmp_path / "set", *command) == 2
    assert "--weights DIR" in capsys.readouterr().err
    command += ["--weights", str(weights)]
    assert blockout(tmp_path / "set", *command) == 2
    assert (
        "The licence of LTX-2 was not accepted" in capsys.readouterr().err and not (tmp_path / "set").exists()
    )
    accept(weights, LICENCES)
    blockout(tmp_path / "set", *command)
    clip = ShardReader(tmp_path / "set")[0]
    frames = torch.from_numpy(make_clip(BlockoutSettings(4, 9, (64, 64), False), 0).frames)
    vae = load_vae(weights / "SANA-WM_bidirectional" / "vae", "encoder", False, torch.float32)
    expected = encode_frames(vae, frames.permute(3, 0, 1, 2)[None].float() / 255)[0]
    torch.testing.assert_close(clip.latents.float(), expected, atol=2e-3, rtol=2e-3)
    assert load_codec("ltx2", weights).decode(clip.latents).shape == (9, 64, 64, 3)
    report = validate(tmp_path / "set", None, "the weights are not here.")
    assert report.notes == ["The first frames were not decoded: the weights are not here."]


@pytest.mark.parametrize(("size", "near"), [((100, 64), "96 x 64"), ((16, 64), "32 x 64")])
def test_a_size_that_the_codec_cannot_take_is_refused_with_one_that_it_can(size, near):
    with pytest.raises(ProtocolError, match=f"multiples of 8 .*; {near} would do"):
        check_size(size, LinearClips())
