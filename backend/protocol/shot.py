# SPDX-License-Identifier: GPL-3.0-or-later
"""What to make."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from .blockout import Blockout
from .camera_path import CameraPath
from .errors import ProtocolError
from .preset import Preset
from .records import from_record

SCHEMA_VERSION = 1

CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Source:
    """Where a shot came from; enough to place its clip again.

    Attributes:
        blend: path of the .blend file as text, empty if it was never saved.
        scene, camera: names of the data-blocks.
        frame_start: scene frame of camera sample 0; may lie between frames.
        frame_end: last scene frame of the range, inclusive.
        scene_fps: frames per second of the scene (fps / fps_base).
        request_id: unique to the one time that this shot was asked for; the scene remembers it under any
            name and in any file. Empty if nobody will ask for the clip again.
        first_frame: path, as text, of the image that was chosen as the first frame; empty for the blockout's own.
    """

    blend: str
    scene: str
    camera: str
    frame_start: float
    frame_end: float
    scene_fps: float
    request_id: str = ""
    first_frame: str = ""


@dataclass(frozen=True)
class Shot:
    """One shot, whole. The first frame travels beside it as `first_frame.png`.

    Attributes:
        code: such as "010_0030": letters, digits and underscores.
        name: free text.
        camera: the path at 16 fps; its image size is the first frame's.
        prompt, negative_prompt: free text.
        seed: 0 .. 2**32 - 1.
        preset: how to make it.
        source: where it came from.
        blockout: the geometry the camera sees, or None if it is not known.
    """

    code: str
    name: str
    camera: CameraPath
    prompt: str
    negative_prompt: str
    seed: int
    preset: Preset
    source: Source
    blockout: Blockout | None = None

    def __post_init__(self) -> None:
        if not CODE.fullmatch(self.code):
            raise ProtocolError(
                f"The shot code {self.code!r} must consist of letters, digits and underscores, "
                "and begin with a letter or digit."
            )
        if not 0 <= self.seed < 2**32:
            raise ProtocolError(f"The seed must lie between 0 and {2**32 - 1}, not {self.seed}.")
        if self.blockout is not None and len(self.blockout.moving):
            moving_samples = self.blockout.motion.shape[1]
            if moving_samples != len(self.camera):
                raise ProtocolError(
                    f"The blockout moves over {moving_samples} samples but the camera over "
                    f"{len(self.camera)}."
                )

    def to_record(self) -> dict[str, Any]:
        """The JSON part: everything but the arrays of camera and blockout."""
        return {
            "schema_version": SCHEMA_VERSION,
            "code": self.code,
            "name": self.name,
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "preset": self.preset.to_record(),
            "source": asdict(self.source),
            "has_blockout": self.blockout is not None,
        }

    @classmethod
    def from_record(cls, record: Any, camera: CameraPath, blockout: Blockout | None) -> Shot:
        """The inverse of `to_record`.

        Raises:
            ProtocolError: another schema version, or entries unknown, missing or of the wrong type.
        """
        check_schema_version(record, "shot.json")
        misplaced = sorted({"camera", "blockout"} & record.keys())
        if misplaced:
            raise ProtocolError(f"The shot has unknown entries: {', '.join(misplaced)}.")
        values = {
            n: v for n, v in record.items() if n not in ("schema_version", "has_blockout", "fingerprint")
        }
        if {"preset", "source"} <= values.keys():
            values["preset"] = Preset.from_record(values["preset"])
            values["source"] = from_record(Source, values["source"], "The shot's source")
        return from_record(cls, values | {"camera": camera, "blockout": blockout}, "The shot")


def check_schema_version(record: Any, file_name: str) -> None:
    """Refuse a JSON object that was written to another version of this contract."""
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != SCHEMA_VERSION:
        raise ProtocolError(
            f"{file_name} has schema version {version!r}, and this version of SANA-WM Shots reads only "
            f"version {SCHEMA_VERSION}; use the version it was written with, or export the shot again."
        )
