# SPDX-License-Identifier: GPL-3.0-or-later
"""Shards: what is written comes back, whatever happens to the writer in between."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from backend.data.shards import DatasetInfo, ShardReader, ShardWriter, shard_files
from backend.protocol import ProtocolError

ROOT = Path(__file__).parents[2]
INFO = DatasetInfo("linear", "abc", (64, 32), 9, "blockout", {"seed": 1, "lens": None})


def parts(number: int) -> dict[str, torch.Tensor]:
    """A clip of 9 frames whose values tell which one it is."""
    generator = torch.Generator().manual_seed(number)
    return {
        "latents": torch.randn(128, 2, 4, 8, generator=generator).half(),
        "c2w": torch.eye(4, dtype=torch.float64).repeat(9, 1, 1) + number,
        "intrinsics": torch.full((9, 4), 40.0 + number),
        "depth": torch.full((9, 32, 64), torch.inf).half(),
    }


def write(folder: Path, numbers, shard_bytes=120_000, info=INFO) -> DatasetInfo:
    with ShardWriter(folder, info, shard_bytes) as writer:
        for number in numbers:
            if f"clip-{number:02d}" not in writer.names:
                writer.add(f"clip-{number:02d}", parts(number), f"caption {number}", {"number": number})
        return writer.finish()


def check(folder: Path, count: int) -> None:
    """Every clip is there once, bit for bit."""
    reader = ShardReader(folder)
    assert sorted(reader.names) == [f"clip-{number:02d}" for number in range(count)]
    for clip in (reader[index] for index in range(len(reader))):
        number = clip.origin["number"]
        assert (clip.name, clip.caption) == (f"clip-{number:02d}", f"caption {number}")
        for name, tensor in parts(number).items():
            assert torch.equal(getattr(clip, name), tensor), f"{clip.name}.{name}"
        assert clip.frames is None
    assert (reader.info.clips, reader.info.shards) == (count, len(shard_files(folder)))
    assert not (folder / "unpacked").exists() and not list(folder.glob(".*.tmp"))


def test_clips_come_back_from_shards_of_the_size_that_is_allowed(tmp_path):
    write(tmp_path / "set", range(7))
    check(tmp_path / "set", 7)
    sizes = [path.stat().st_size for path in shard_files(tmp_path / "set")]
    assert len(sizes) > 1 and max(sizes) < 125_000
    assert write(tmp_path / "set", range(9)).clips == 9, "a later run adds to it"
    check(tmp_path / "set", 9)


def test_frames_are_kept_where_no_codec_was_asked_for(tmp_path):
    frames = torch.arange(9 * 32 * 64 * 3).reshape(9, 32, 64, 3).byte()
    with ShardWriter(tmp_path, DatasetInfo("none", "", (64, 32), 9, "footage")) as writer:
        writer.add(
            "a", {"frames": frames, "c2w": parts(0)["c2w"], "intrinsics": parts(0)["intrinsics"]}, "", {}
        )
        writer.finish()
    clip = ShardReader(tmp_path)[0]
    assert torch.equal(clip.frames, frames) and clip.latents is None and clip.depth is None


WRITER = """
import sys
from pathlib import Path
from tests.data.test_shards import INFO, ShardWriter, parts
with ShardWriter(Path(sys.argv[1]), INFO, 120_000) as writer:
    for number in range(1000):
        writer.add(f"clip-{number:02d}", parts(number), f"caption {number}", {"number": number})
        print(number, flush=True)
"""


def test_a_killed_writer_loses_no_finished_clip(tmp_path):
    folder, after = tmp_path / "set", 8
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    for line in process.stdout:
        if int(line) == after:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    with ShardWriter(folder, INFO, 120_000) as writer:
        there = writer.names
    assert {f"clip-{number:02d}" for number in range(after + 1)} <= there
    count = max(len(there), 20)
    write(folder, range(count))
    check(folder, count)


def test_a_crash_between_shard_and_clean_up_doubles_nothing(tmp_path):
    folder = tmp_path / "set"
    with ShardWriter(folder, INFO) as writer:
        writer.add("clip-00", parts(0), "caption 0", {"number": 0})
        shutil.copy(folder / "unpacked" / "clip-00.safetensors", tmp_path)
        writer.finish()
    (folder / "unpacked").mkdir()
    shutil.copy(tmp_path / "clip-00.safetensors", folder / "unpacked")
    (folder / ".00001.safetensors.tmp").write_bytes(b"half")
    write(folder, range(2))
    check(folder, 2)


def test_what_is_not_a_dataset_of_these_settings_is_refused(tmp_path):
    folder = tmp_path / "set"
    write(folder, range(1))
    other = DatasetInfo("linear", "abc", (64, 32), 9, "blockout", {"seed": 2, "lens": None})
    with pytest.raises(ProtocolError, match="other settings .*'seed': 1.*'seed': 2"):
        ShardWriter(folder, other)
    with ShardWriter(folder, INFO), pytest.raises(ProtocolError, match="Another process writes"):
        ShardWriter(folder, INFO)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    with pytest.raises(ProtocolError, match="holds other files"):
        ShardWriter(tmp_path / "photos", INFO)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["holiday.jpg"]
    with pytest.raises(ProtocolError, match="is no dataset"):
        ShardReader(tmp_path / "photos")
    record = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**record, "schema_version": 2}))
    for open_it in (ShardReader, lambda path: ShardWriter(path, INFO)):
        with pytest.raises(ProtocolError, match="schema version 2, and this version reads 1"):
            open_it(folder)


def test_a_shard_that_is_cut_off_is_named(tmp_path):
    write(tmp_path, range(3), shard_bytes=10_000_000)
    shard = tmp_path / "00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(ProtocolError, match="00000.safetensors is damaged .* remove it and run"):
        ShardReader(tmp_path)
    shard.unlink()
    write(tmp_path, range(3))
    check(tmp_path, 3)
