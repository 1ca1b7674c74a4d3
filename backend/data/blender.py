# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips that Blender renders of .blend files: `--command sana_wm annotate`, and its folders read back."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..blender_command import run_in_blender
from ..protocol import CameraPath, ProtocolError, atomic
from ..protocol.annotation import SUMMARY_NAME, AnnotatedClip, Summary
from ..weights.verify import sha256_of
from .clip import Rejected, SourceClip

# In the folder of a file's clips: which file they are of.
_FILE_NAME = "file.json"


@dataclass(frozen=True)
class BlenderSettings:
    """How .blend files are filmed.

    Attributes:
        program: Blender, by name or path, with the extension installed.
        engine: a key of annotation.ENGINES.
        samples: per pixel, of Cycles; 0 for as many as each scene has.
        frames: of each clip, 8k + 1.
        size: (width, height) in pixels.
        depth: whether the clips have depth.
        cameras: by name; empty for the shots of each file's list, or else every camera.
        range: first and last scene frame; None for the scene's.
    """

    program: str
    engine: str
    samples: int
    frames: int
    size: tuple[int, int]
    depth: bool
    cameras: tuple[str, ...] = ()
    range: tuple[int, int] | None = None

    def record(self) -> dict[str, Any]:
        """For the dataset's record, which has size and frames already."""
        return {"engine": self.engine, "samples": self.samples, "depth": self.depth}


def clips_of(
    files: Sequence[Path], work: Path, settings: BlenderSettings, present: Collection[str]
) -> Iterator[SourceClip | Rejected]:
    """Every clip of the files that is not there yet, and why others are not taken.

    Args:
        work: folder for Blender's pictures, which leave it when their clip is taken; small records stay, by which
            Blender knows what it has done.
        present: names of the clips that are there.

    Raises:
        ProtocolError: a file, Blender or its extension is missing, or a file cannot be filmed at all.
    """
    stems = [_plain(file.stem) for file in files]
    twice = {stem for stem in stems if stems.count(stem) > 1}
    if twice:
        raise ProtocolError(f"Several files are called {', '.join(sorted(twice))}; make a dataset of each.")
    for file, stem in zip(files, stems, strict=True):
        folder = work / stem
        _require_unchanged(file, folder, any(name.startswith(f"{stem}-") for name in present))
        _forget_lost(folder, stem, present)
        (folder / SUMMARY_NAME).unlink(missing_ok=True)
        run_in_blender(settings.program, file, _words(folder, settings))
        if not (folder / SUMMARY_NAME).exists():
            raise ProtocolError(f"Blender could not film {file}; what it says above tells why.")
        summary = Summary.load(folder)
        for name, reason in summary.left_out.items():
            yield Rejected(f"{stem}-{name}", reason)
        for name in summary.clips:
            clip = AnnotatedClip(folder / name)
            if f"{stem}-{name}" not in present:
                yield _read(f"{stem}-{name}", clip, settings.depth)
            for pictures in ("rgb", "depth"):
                shutil.rmtree(clip.folder / pictures, ignore_errors=True)


def _words(folder: Path, settings: BlenderSettings) -> list[str]:
    width, height = settings.size
    words = ["annotate", "--out", str(folder.absolute()), "--size", f"{width}x{height}"]
    words += ["--frames", str(settings.frames), "--engine", settings.engine]
    for camera in settings.cameras:
        words += ["--camera", camera]
    if settings.range:
        words += ["--range", *map(str, settings.range)]
    return words + (["--samples", str(settings.samples)] if settings.samples else [])


def _require_unchanged(file: Path, folder: Path, has_clips: bool) -> None:
    """A file that was edited would give clips of another scene beside those that are there."""
    if not file.is_file():
        raise ProtocolError(f"There is no .blend file {file}.")
    record, own = folder / _FILE_NAME, {"sha256": sha256_of(file)}
    if record.exists() and atomic.read_json(record) != own:
        if has_clips:
            raise ProtocolError(
                f"{file} was saved again after clips of it came into this set. Make another set with --out, or remove "
                f"{record} to let old and new clips stand beside each other."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(record, own)


def _forget_lost(folder: Path, stem: str, present: Container[str]) -> None:
    """Clips that were taken into a dataset that has lost them are rendered again."""
    for record in folder.glob("*/clip.json"):
        is_lost = f"{stem}-{record.parent.name}" not in present and not (record.parent / "rgb").is_dir()
        if is_lost:
            record.unlink()


def _read(name: str, clip: AnnotatedClip, with_depth: bool) -> SourceClip:
    record, camera = clip.record(), CameraPath.load(clip.camera_npz)
    try:
        frames = np.stack([_picture(clip.rgb(sample)) for sample in range(len(camera))])
    except (OSError, SyntaxError, ValueError) as error:
        raise ProtocolError(
            f"The pictures in {clip.folder} are damaged ({error}); remove this folder and run the command again."
        ) from error
    depth_m = clip.load_depth(len(camera)) if with_depth else None
    return SourceClip(name, frames, camera, record.caption, record.origin, depth_m)


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB"))


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "file"
