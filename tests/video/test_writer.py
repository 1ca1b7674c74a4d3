# SPDX-License-Identifier: GPL-3.0-or-later
import errno
import hashlib
import json
import resource
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest

from backend.video import ClipWriter, VideoError

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


def write_clip(folder, frames, size=SIZE):
    folder.mkdir(exist_ok=True)
    with ClipWriter(folder / "preview", size, 16, TAGS) as writer:
        for start in range(0, len(frames), 8):
            writer.write(frames[start : start + 8])
        writer.finish(folder / "clip.mp4")
    return folder / "clip.mp4"


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


def test_the_growing_clip_plays_and_the_latest_frame_is_whole(tmp_path):
    frames = smooth_frames(96)
    with ClipWriter(tmp_path / "preview", SIZE, 16, TAGS) as writer:
        held = 0
        for start in range(0, 96, 8):
            writer.write(frames[start : start + 8])
        # The encoder is another process: give it time to reach the end of what it was fed.
        for _ in range(200):
            held = len(decoded(writer.growing))
            if held >= 64:
                break
        assert held >= 64, f"only {held} of 96 frames can be played"
        back = decoded(writer.growing, exact_colors=True)[63].astype(int)
        assert np.abs(back - frames[63]).mean() < 2
        latest = imageio_ffmpeg.read_frames(str(tmp_path / "preview/latest.png"))
        next(latest)
        assert np.array_equal(np.frombuffer(next(latest), np.uint8).reshape(SIZE[1], SIZE[0], 3), frames[-1])
    assert not (tmp_path / "clip.mp4").exists()


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
try:
    with ClipWriter(folder / "preview", (96, 64), 16, {}) as writer:
        for start in range(0, 48, 8):
            writer.write(frames[start : start + 8])
        writer.finish(folder / "clip.mp4")
except OSError as error:
    print(error.errno)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs file size limits")
def test_no_room_is_an_oserror_and_leaves_no_clip(tmp_path, pytestconfig):
    limited = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), "100000"],
        capture_output=True,
        text=True,
        cwd=pytestconfig.rootpath,
    )
    assert limited.stdout.strip() in {str(errno.EFBIG), str(errno.ENOSPC)}, limited.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"preview"}
