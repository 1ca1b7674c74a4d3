# SPDX-License-Identifier: GPL-3.0-or-later
"""Training clips as Blender leaves them for the backend: a folder a clip, with pictures, depth and camera.

<clip>/
    rgb/00000.png ...    8 bit sRGB, one every 1/16 s of scene time
    depth/00000.npy ...  (H, W) float16, metres along the optical axis, inf where nothing is
    camera.npz           a CameraPath of the pictures' size
    clip.json            caption and origin; written last
annotations.json         the clips of this run in their order, and what was left out
"""

from __future__ import annotations

import argparse
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import atomic
from .camera_path import FPS, CameraPath
from .errors import ProtocolError
from .limits import MAX_FRAMES, TEMPORAL_STRIDE
from .records import from_record

ENGINES = {"workbench": "BLENDER_WORKBENCH", "cycles": "CYCLES"}
SUMMARY_NAME = "annotations.json"


@dataclass(frozen=True)
class ClipRecord:
    """What `clip.json` says.

    Attributes:
        caption: what the clip shows; may be empty.
        origin: the file, scene, camera, frames, engine and version, for people.
    """

    caption: str
    origin: dict[str, Any]


@dataclass(frozen=True)
class Summary:
    """What `annotations.json` says.

    Attributes:
        clips: finished ones, by the names of their folders.
        left_out: name -> the reason in a sentence.
    """

    clips: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        atomic.write_json(folder / SUMMARY_NAME, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Summary:
        """ProtocolError if it is missing or damaged."""
        return from_record(cls, atomic.read_json(folder / SUMMARY_NAME), SUMMARY_NAME)


@dataclass(frozen=True)
class AnnotatedClip:
    """The folder of one clip."""

    folder: Path

    def rgb(self, sample: int) -> Path:
        return self.folder / "rgb" / f"{sample:05d}.png"

    def depth(self, sample: int) -> Path:
        return self.folder / "depth" / f"{sample:05d}.npy"

    @property
    def camera_npz(self) -> Path:
        return self.folder / "camera.npz"

    @property
    def is_finished(self) -> bool:
        return (self.folder / "clip.json").exists()

    def begin(self, camera: CameraPath) -> list[int]:
        """Make the folder; the samples whose pictures are still missing. Those of another camera do not count."""
        if self.camera_npz.exists() and CameraPath.load(self.camera_npz) != camera:
            for old in (*self.folder.glob("rgb/*.png"), *self.folder.glob("depth/*.npy")):
                old.unlink()
        for kind in ("rgb", "depth"):
            (self.folder / kind).mkdir(parents=True, exist_ok=True)
        camera.save(self.camera_npz)
        return [sample for sample in range(len(camera)) if not self.depth(sample).exists()]

    def save_depth(self, sample: int, depth_m: np.ndarray) -> None:
        """Keep a sample's depth, which says that the sample is finished: its picture has to be there before."""
        buffer = io.BytesIO()
        with np.errstate(over="ignore"):  # further away than float16 reaches is as good as nothing
            np.save(buffer, depth_m.astype(np.float16))
        atomic.write_bytes(self.depth(sample), buffer.getvalue())

    def finish(self, record: ClipRecord) -> None:
        """Say that all pictures are there."""
        atomic.write_json(self.folder / "clip.json", asdict(record))

    def record(self) -> ClipRecord:
        """ProtocolError if the clip is not finished or damaged."""
        return from_record(
            ClipRecord, atomic.read_json(self.folder / "clip.json"), f"clip.json in {self.folder}"
        )

    def load_depth(self, count: int) -> np.ndarray:
        """(count, H, W) float16; ProtocolError if one is missing or damaged."""
        try:
            return np.stack([np.load(self.depth(sample), allow_pickle=False) for sample in range(count)])
        except (OSError, ValueError, EOFError) as error:
            raise ProtocolError(
                f"The depth of {self.folder} is damaged ({error}); remove this folder and run the command again."
            ) from error


def clip_starts(samples: int, clip_frames: int) -> list[int]:
    """First samples of the clips of one length that so many samples give, one after the other."""
    return list(range(0, samples - clip_frames + 1, clip_frames))


def too_short(samples: int, clip_frames: int) -> str:
    """The sentence for a range that gives no clip."""
    longest = TEMPORAL_STRIDE * ((samples - 1) // TEMPORAL_STRIDE) + 1
    remedy = f"; --frames {longest} would do" if longest > TEMPORAL_STRIDE else ""
    frames = "1 frame" if samples == 1 else f"{samples} frames"
    return f"It gives {frames} at {FPS} fps, and a clip needs {clip_frames}{remedy}."


def size_argument(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT in pixels, for argparse."""
    words = text.lower().split("x")
    if len(words) != 2 or not all(word.isdecimal() and 0 < int(word) <= 8192 for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it as 640x352")
    return int(words[0]), int(words[1])


def length_argument(text: str) -> int:
    """A clip's number of frames, 8k + 1, for argparse."""
    is_length = (
        text.isdecimal() and int(text) % TEMPORAL_STRIDE == 1 and TEMPORAL_STRIDE < int(text) <= MAX_FRAMES
    )
    if not is_length:
        raise argparse.ArgumentTypeError(
            f"a clip has 8k + 1 frames, from {TEMPORAL_STRIDE + 1} to {MAX_FRAMES}, such as 81; not {text}"
        )
    return int(text)
