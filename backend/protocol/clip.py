# SPDX-License-Identifier: GPL-3.0-or-later
"""What was made: the record beside `clip.mp4`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import atomic
from .camera_match import CameraMatch
from .camera_path import FPS
from .records import from_record
from .shot import SCHEMA_VERSION, check_schema_version


@dataclass(frozen=True)
class Clip:
    """The content of `clip.json`.

    Attributes:
        frame_count: frames in the clip.
        image_size: (width, height) in pixels.
        pose_offset: delivered frame i shows camera sample i + pose_offset; 1 when the refiner dropped
            frame 0.
        preset: the preset's record.
        seed: the shot's seed.
        model: name and sha256 of every weights file that took part.
        versions: of this program, Python and the libraries that decide the pixels.
        duration_s: seconds each stage took.
        warnings: sentences for the user.
        match: whether the clip follows its camera; None if nobody has measured it.
        ai_generated: always true; the mark that the clip carries.
        fps: always 16.
    """

    frame_count: int
    image_size: tuple[int, int]
    pose_offset: int
    preset: dict[str, Any]
    seed: int
    model: dict[str, str]
    versions: dict[str, str]
    duration_s: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    match: CameraMatch | None = None
    ai_generated: bool = True
    fps: int = FPS

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(self.image_size))

    def save(self, path: Path) -> None:
        """Write `clip.json`, atomically."""
        atomic.write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> Clip:
        """Read `clip.json`.

        Raises:
            ProtocolError: missing, damaged, or of another schema version.
        """
        record = atomic.read_json(path)
        check_schema_version(record, path.name)
        record.pop("schema_version")
        if record.get("match") is not None:
            record["match"] = CameraMatch.from_record(record["match"])
        return from_record(cls, record, "clip.json")
