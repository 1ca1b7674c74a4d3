# SPDX-License-Identifier: GPL-3.0-or-later
import errno
import hashlib
import json
import resource
import signal
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from backend.video import ClipWriter, VideoError, read_frames

SIZE = (96, 64)
TAGS = {
    "title": "Träume = 1; #2",
    "description": "AI-generated",
    "comment": json.dumps({"seed": 3, "x": "a;b=c"}),
}


def smooth_frames(count, size=SIZE):
    """Slow colour waves and three flat patches: what 4:2:0 chroma keeps well."""
    width, height = size
    x, y, t = np.meshgrid(np.arange(width) / 50, np.arange(height) / 50, np.arange(count) / 6, indexing="ij")
    waves = [np.sin(x + t), np.cos(y - t), np.sin(x + y + t)]
    frames = (np.stack(waves, -1).transpose(2, 1, 0, 3) * 100 + 128).astype(np.uint8)
    for row, color in enumerate(((200, 30, 30), (128, 128, 128), (20, 60, 220))):
        frames[:, 16 * row : 16 * row + 16, :32] = color
    return frames


def decoded(path, size=SIZE, *, exact_colors=False):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path)]
    if exact_colors:
        command += ["-vf", "scale=flags=accurate_rnd+full_chroma_int+full_chroma_inp"]
    raw = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=False
    ).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)


def described(path):
    """What ffmpeg says about a file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)]
    return subprocess.run(command, capture_output=True, check=False).stderr.decode()


def timestamps(path):
    """Of every frame, in ticks, and the ticks of a second."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path)]
    lines = subprocess.run(
        [*command, "-map", "0:v", "-c", "copy", "-f", "framecrc", "-"], capture_output=True, text=True
    ).stdout.splitlines()
    second = next(int(line.rpartition("/")[2]) for line in lines if line.startswith("#tb"))
    return [int(line.split(",")[2]) for line in lines if not line.startswith("#")], second


def write_clip(folder, frames, *, resume=False):
    """The frames in chunks of 8, or those of them that a growing clip does not hold yet."""
    folder.mkdir(exist_ok=True)
    with ClipWriter(folder / "preview", SIZE, 16, TAGS, resume=resume) as writer:
        for start in range(writer.frames_written, len(frames), 8):
            writer.write(frames[start : start + 8])
        writer.finish(folder / "clip.mp4")
    return folder / "clip.mp4"


def written(folder):
    return (folder / "preview/clip.mp4").read_bytes(), (folder / "clip.mp4").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Frames and the folder of their clip, made in one go."""
    folder, frames = tmp_path_factory.mktemp("undisturbed"), smooth_frames(33)
    write_clip(folder, frames)
    return frames, folder


def test_frames_colours_rate_and_metadata_come_back(tmp_path):
    frames = smooth_frames(33)
    clip = write_clip(tmp_path, frames)
    back = decoded(clip, exact_colors=True)
    assert back.shape == frames.shape
    error = np.abs(back.astype(int) - frames).mean()
    assert error < 2, f"mean colour error {error:.2f} of 255"
    for row, color in enumerate(((200, 30, 30), (128, 128, 128), (20, 60, 220))):
        patch = back[:, 16 * row + 4 : 16 * row + 12, 8:24].mean((0, 1, 2))
        assert np.abs(patch - color).max() < 2, f"patch {color} came back as {patch.round(1)}"
    text = described(clip)
    assert "yuv420p(tv, bt709, progressive)" in text and "16 fps" in text and "Duration: 00:00:02.06" in text
    assert TAGS["title"] in text and TAGS["description"] in text and TAGS["comment"] in text
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "preview"}


def test_the_same_frames_give_the_same_bytes(tmp_path):
    frames = smooth_frames(17)
    digests = {
        hashlib.sha256(write_clip(tmp_path / name, frames).read_bytes()).hexdigest()
        for name in ("one", "two")
    }
    assert len(digests) == 1


def test_the_growing_clip_holds_every_chunk_as_soon_as_it_is_written(tmp_path):
    frames, end = smooth_frames(51), 0
    with ClipWriter(tmp_path / "preview", SIZE, 16, TAGS) as writer:
        for count in (25, 1, 8, 17):
            end += count
            writer.write(frames[end - count : end])
            assert writer.frames_written == end
            back = decoded(writer.growing, exact_colors=True)
            assert len(back) == end
            error = np.abs(back.astype(int) - frames[:end]).mean((1, 2, 3))
            assert error.max() < 2, f"frame {error.argmax()} is off by {error.max():.2f} of 255"
            assert timestamps(writer.growing) == ([1024 * frame for frame in range(end)], 1024 * 16)
            latest = np.asarray(Image.open(tmp_path / "preview/latest.png"))
            assert np.array_equal(latest, frames[end - 1])
    assert not (tmp_path / "clip.mp4").exists()


def test_the_finished_clip_shows_frame_n_at_n_sixteenths(undisturbed):
    ticks, second = timestamps(undisturbed[1] / "clip.mp4")
    assert [tick / second for tick in ticks] == [frame / 16 for frame in range(33)]


def test_without_resume_a_clip_begins_anew(tmp_path, undisturbed):
    frames, folder = undisturbed
    write_clip(tmp_path, frames[::-1])
    write_clip(tmp_path, frames)
    assert written(tmp_path) == written(folder)


# Bytes of the last fragment that reached the disk, in parts of its length or counted from its end.
@pytest.mark.parametrize("kept", [0, 1, 7, 100, 0.5, 0.9, -1])
def test_a_clip_cut_off_in_its_last_chunk_resumes_to_the_same_bytes(tmp_path, undisturbed, kept):
    frames, folder = undisturbed
    (tmp_path / "preview").mkdir()
    growing, _ = written(folder)
    last = growing.rindex(b"moof") - 4
    bytes_kept = int(kept * (len(growing) - last)) if isinstance(kept, float) else kept
    cut = last + bytes_kept if kept >= 0 else len(growing) + kept
    (tmp_path / "preview/clip.mp4").write_bytes(growing[:cut])
    with ClipWriter(tmp_path / "preview", SIZE, 16, TAGS, resume=True) as writer:
        assert writer.frames_written == 32
        assert len(decoded(writer.growing)) == 32
    write_clip(tmp_path, frames, resume=True)
    assert written(tmp_path) == written(folder)


def test_a_complete_growing_clip_resumes_with_nothing_left_to_write(tmp_path, undisturbed):
    frames, folder = undisturbed
    (tmp_path / "preview").mkdir()
    (tmp_path / "preview/clip.mp4").write_bytes(written(folder)[0])
    with ClipWriter(tmp_path / "preview", SIZE, 16, TAGS, resume=True) as writer:
        assert writer.frames_written == len(frames)
        writer.finish(tmp_path / "clip.mp4")
    assert written(tmp_path) == written(folder)


def repeated_fragment(growing):
    return growing + growing[growing.rindex(b"moof") - 4 :]


def zeros_after(growing):
    return growing + bytes(4096)


def missing_fragment(growing):
    second = growing.index(b"moof", growing.index(b"moof") + 4) - 4
    return growing[:second] + growing[growing.rindex(b"moof") - 4 :]


@pytest.mark.parametrize(
    ("damage", "left"), [(repeated_fragment, 33), (zeros_after, 33), (missing_fragment, 8)]
)
def test_what_does_not_follow_on_is_cut_off(tmp_path, undisturbed, damage, left):
    frames, folder = undisturbed
    (tmp_path / "preview").mkdir()
    (tmp_path / "preview/clip.mp4").write_bytes(damage(written(folder)[0]))
    with ClipWriter(tmp_path / "preview", SIZE, 16, TAGS, resume=True) as writer:
        assert writer.frames_written == left
    write_clip(tmp_path, frames, resume=True)
    assert written(tmp_path) == written(folder)


def test_a_foreign_file_or_none_begins_anew(tmp_path, undisturbed):
    frames, folder = undisturbed
    growing, clip = written(folder)
    other_size = tmp_path / "other/preview"
    other_size.parent.mkdir()
    with ClipWriter(other_size, (64, 96), 16, TAGS) as writer:
        writer.write(np.zeros((8, 96, 64, 3), np.uint8))
    foreign = {
        "missing": None,
        "empty": b"",
        "text": b"not a film",
        "header": growing[: growing.index(b"moof") - 4],
        "finished": clip,
        "tags": growing.replace(b"AI-generated", b"drawn by man"),
        "size": (other_size / "clip.mp4").read_bytes(),
    }
    for name, data in foreign.items():
        preview = tmp_path / name / "preview"
        preview.mkdir(parents=True)
        if data is not None:
            (preview / "clip.mp4").write_bytes(data)
        with ClipWriter(preview, SIZE, 16, TAGS, resume=True) as writer:
            assert writer.frames_written == 0, name
            writer.write(frames[:8])
        assert growing.startswith((preview / "clip.mp4").read_bytes()), name


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from backend.video import ClipWriter
frames, tags = np.load(sys.argv[2]), eval(sys.argv[3])
writer = ClipWriter(Path(sys.argv[1]) / "preview", (96, 64), 16, tags)
for start in range(0, len(frames), 8):
    writer.write(frames[start : start + 8])
    print(writer.frames_written, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_killed_writer_loses_the_chunk_in_flight_at_most(tmp_path, undisturbed, pytestconfig):
    frames, folder = undisturbed
    np.save(tmp_path / "frames.npy", frames)
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(tmp_path / "frames.npy"), repr(TAGS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=pytestconfig.rootpath) as killed:
        promised = [int(killed.stdout.readline()) for _ in range(2)][-1]
        killed.kill()
    with ClipWriter(tmp_path / "preview", SIZE, 16, TAGS, resume=True) as writer:
        assert writer.frames_written >= promised
    write_clip(tmp_path, frames, resume=True)
    assert written(tmp_path) == written(folder)


def test_the_finished_clip_has_its_index_first_and_no_fragments(tmp_path):
    data = write_clip(tmp_path, smooth_frames(40)).read_bytes()
    assert data.find(b"moov") < data.find(b"mdat") and b"moof" not in data


@pytest.mark.parametrize("size", [(95, 64), (96, 63), (0, 64)])
def test_odd_sizes_are_refused_with_a_sentence(tmp_path, size):
    with pytest.raises(VideoError, match=f"{size[0]}x{size[1]} pixels cannot be encoded.*even"):
        ClipWriter(tmp_path / "preview", size, 16, TAGS)
    assert not (tmp_path / "preview").exists()


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from backend.video import ClipWriter
folder = Path(sys.argv[1])
frames = np.random.default_rng(0).integers(0, 255, (48, 64, 96, 3), dtype=np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
with ClipWriter(folder / "preview", (96, 64), 16, {}) as writer:
    try:
        for start in range(0, 48, 8):
            writer.write(frames[start : start + 8])
        writer.finish(folder / "clip.mp4")
    except OSError as error:
        print(error.errno, writer.frames_written)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs file size limits")
def test_no_room_is_an_oserror_and_leaves_whole_chunks_alone(tmp_path, pytestconfig):
    limited = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), "200000"],
        capture_output=True,
        text=True,
        cwd=pytestconfig.rootpath,
    )
    code, frames = map(int, limited.stdout.split())
    assert code in {errno.EFBIG, errno.ENOSPC}, limited.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"preview"}
    assert 0 < frames < 48 and len(decoded(tmp_path / "preview/clip.mp4")) == frames
    growing = (tmp_path / "preview/clip.mp4").read_bytes()
    assert len(growing) < 200000 and growing.count(b"moof") == frames // 8


def test_a_clip_is_read_back_frame_by_frame_and_a_short_or_broken_one_is_refused(tmp_path):
    frames = np.stack([np.full((48, 64, 3), 40 * index, np.uint8) for index in range(5)])
    with ClipWriter(tmp_path / "preview", (64, 48), 16, {}) as writer:
        writer.write(frames)
        writer.finish(tmp_path / "clip.mp4")
    read = list(read_frames(tmp_path / "clip.mp4", 5))
    np.testing.assert_allclose(np.stack(read).astype(int), frames.astype(int), atol=4)
    with pytest.raises(VideoError, match="has 5 frames and should have 6"):
        list(read_frames(tmp_path / "clip.mp4", 6))
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    for name in ("broken.mp4", "missing.mp4"):
        with pytest.raises(VideoError, match=f"{name} cannot be decoded"):
            list(read_frames(tmp_path / name, 5))
