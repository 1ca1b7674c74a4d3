# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips of films and folders of pictures whose cameras a solver has estimated."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
from PIL import Image

from ..protocol import CameraPath, ProtocolError, cover_crop
from ..protocol.annotation import clip_starts, too_short
from ..protocol.camera_parsing import Given
from ..protocol.camera_scenes import natural_order
from ..protocol.clip_filter import why_unreliable
from .clip import Rejected, SourceClip
from .footage_poses import PICTURE_SUFFIXES, pictures_at_16_fps, read_poses, rows_of_pictures, runs_of

FILM_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")


@dataclass(frozen=True)
class FootageSettings:
    """How footage is read.

    Attributes:
        poses: a key of footage_poses.KINDS.
        frames: of each clip, 8k + 1.
        size: (width, height) of the clips in pixels; pictures are scaled to cover it, and their centre is cut out.
        fps: of folders of pictures; None if there are none.
        lens: fx, fy, cx, cy in pixels of the footage, where the poses do not say it.
        metres_per_unit: of the poses; a solver's own unit means nothing.
    """

    poses: str
    frames: int
    size: tuple[int, int]
    fps: float | None = None
    lens: tuple[float, float, float, float] | None = None
    metres_per_unit: float = 1.0

    def record(self) -> dict[str, Any]:
        """For the dataset's record, which has size and frames already."""
        return {name: value for name, value in asdict(self).items() if name not in ("frames", "size")}


@dataclass(frozen=True)
class Footage:
    """A film, or pictures in their order.

    Attributes:
        folder, name: poses and caption lie in `folder`, named after it.
        pictures: the files; for a film as many empty names as it has frames.
        film: None for pictures.
    """

    folder: Path
    name: str
    pictures: tuple[str, ...]
    size: tuple[int, int]
    fps: float
    film: Path | None
    picture_folder: Path

    @classmethod
    def of_film(cls, path: Path) -> Footage:
        """ProtocolError if it cannot be decoded."""
        try:
            with closing(imageio_ffmpeg.read_frames(path)) as reader:
                said = next(reader)
            count, _ = imageio_ffmpeg.count_frames_and_secs(path)
        except (OSError, RuntimeError, StopIteration) as error:
            raise ProtocolError("It cannot be decoded as a film.") from error
        return cls(path.parent, path.stem, ("",) * count, tuple(said["size"]), said["fps"], path, path.parent)

    @classmethod
    def of_pictures(cls, folder: Path, fps: float | None) -> Footage:
        """ProtocolError if the rate is not known or the first picture cannot be read."""
        if fps is None:
            raise ProtocolError("It is a folder of pictures; say how many there are a second with --fps.")
        inside = _picture_folder(folder)
        names = sorted((p.name for p in inside.iterdir() if _is_picture(p)), key=natural_order)
        size = _open(inside / names[0]).size
        return cls(folder.parent, folder.name, tuple(names), size, fps, None, inside)

    def caption(self) -> str:
        """What stands in NAME.txt, or in NAME/caption.txt."""
        for path in (self.folder / f"{self.name}.txt", self.folder / self.name / "caption.txt"):
            if path.is_file():
                return " ".join(path.read_text("utf-8", "replace").split())
        return ""

    def read(self, wanted: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """The pictures of rising numbers, cut to `size`: (H, W, 3) uint8.

        Raises:
            ProtocolError: one cannot be read.
        """
        if self.film is None:
            for index in wanted:
                yield _cut(_open(self.picture_folder / self.pictures[index]), size)
            return
        left = iter(wanted.tolist())
        number = next(left, None)
        with closing(
            imageio_ffmpeg.read_frames(self.film, output_params=["-fps_mode", "passthrough"])
        ) as reader:
            next(reader)
            for index, data in enumerate(reader):
                if number is None:
                    return
                while index == number:
                    yield _cut(Image.frombytes("RGB", self.size, data), size)
                    number = next(left, None)
        if number is not None:
            raise ProtocolError(f"It cannot be decoded beyond frame {index} of {len(self.pictures)}.")


def clips_of(
    folder: Path, settings: FootageSettings, present: Container[str]
) -> Iterator[SourceClip | Rejected]:
    """Every clip of a folder of footage that is not there yet, and why others are not taken.

    Args:
        present: names of the clips that are there.

    Raises:
        ProtocolError: the folder holds no footage.
    """
    seen: set[str] = set()
    for path in find(folder):
        name = _plain(path.name if path.is_dir() else path.stem)
        if name in seen:
            yield Rejected(name, f"Another piece of footage has the name of {path.name}; rename one.")
            continue
        seen.add(name)
        try:
            footage = Footage.of_pictures(path, settings.fps) if path.is_dir() else Footage.of_film(path)
            yield from _clips(name, footage, settings, present)
        except ProtocolError as error:
            yield Rejected(name, str(error))


def find(folder: Path) -> list[Path]:
    """Films and folders of pictures, in the order of their names.

    Raises:
        ProtocolError: there are none.
    """
    if not folder.is_dir():
        raise ProtocolError(f"There is no folder {folder}.")
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in FILM_SUFFIXES
        or (
            path.is_dir()
            and not path.name.startswith(".")
            and any(map(_is_picture, _picture_folder(path).iterdir()))
        )
    )
    if not found:
        kinds = ", ".join(FILM_SUFFIXES)
        raise ProtocolError(f"{folder} holds neither films ({kinds}) nor folders of pictures.")
    return found


def _clips(
    name: str, footage: Footage, settings: FootageSettings, present: Container[str]
) -> Iterator[SourceClip | Rejected]:
    shown = pictures_at_16_fps(len(footage.pictures), footage.fps)
    given = Given(footage.fps, footage.size, settings.lens)
    recorded = read_poses(footage.folder, footage.name, settings.poses, given)
    (width, height), (pose_width, pose_height) = footage.size, recorded.image_size
    if abs(width / height - pose_width / pose_height) > 0.01 * width / height:
        raise ProtocolError(
            f"Its pictures are {width} x {height}, and its poses are of pictures of {pose_width} x {pose_height}."
        )
    rows = rows_of_pictures(recorded, settings.poses, footage.pictures, footage.fps)[shown]
    runs = runs_of(rows >= 0)
    c2w = recorded.c2w.copy()
    c2w[:, :3, 3] *= settings.metres_per_unit
    starts = [begin + start for begin, end in runs for start in clip_starts(end - begin, settings.frames)]
    if not starts:
        longest = max((end - begin for begin, end in runs), default=0)
        having = "" if (rows >= 0).all() else " Only pictures with a pose count, in one stretch."
        raise ProtocolError(too_short(longest, settings.frames) + having)
    fit: dict[int, CameraPath] = {}
    for start in starts:
        of_clip = rows[start : start + settings.frames]
        camera = CameraPath(c2w[of_clip], recorded.intrinsics[of_clip], recorded.image_size)
        camera = camera.fitted_to(settings.size)
        reason = why_unreliable(camera)
        if reason:
            yield Rejected(_clip_name(name, start), reason)
        elif _clip_name(name, start) not in present:
            fit[start] = camera
    wanted = [shown[start : start + settings.frames] for start in fit]
    pictures = footage.read(np.concatenate(wanted), settings.size) if wanted else iter(())
    for start, camera in fit.items():
        frames = np.stack([next(pictures) for _ in range(settings.frames)])
        origin = {"footage": footage.name, "first_picture": int(shown[start]), "fps": footage.fps}
        yield SourceClip(_clip_name(name, start), frames, camera, footage.caption(), origin)


def _clip_name(name: str, start: int) -> str:
    return f"{name}-{start:05d}"


def _picture_folder(folder: Path) -> Path:
    """COLMAP and nerfstudio keep pictures in a folder of their own."""
    return folder / "images" if (folder / "images").is_dir() else folder


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as file:
            return file.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ProtocolError(f"{path.name} is not a picture that can be read: {error}.") from error


def _cut(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    crop = cover_crop(image.size, size)
    if crop.resized != image.size:
        image = image.resize(crop.resized, Image.Resampling.LANCZOS)
    box = (crop.left, crop.top, crop.left + size[0], crop.top + size[1])
    return np.asarray(image.crop(box))


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "footage"
