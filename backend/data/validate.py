# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a whole dataset again and says what is wrong with it, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..protocol import FPS, CameraPath, ProtocolError, atomic
from ..protocol.clip_filter import why_unfit
from ..protocol.limits import TEMPORAL_STRIDE, field_of_view_deg, speed_m_s, turn_rate_deg_s
from .codecs import NO_CODEC, Codec
from .shards import DatasetInfo, ShardReader, StoredClip, shard_files

REJECTED_NAME = "rejected.json"
# A picture whose channels spread less than this, of 255, shows nothing.
LEAST_SPREAD = 2.0


@dataclass
class Report:
    """What a validation found.

    Attributes:
        problems: a clip, or "" for the dataset, and what is wrong with it, in sentences.
        notes: what is not wrong but worth knowing.
        figures: what the dataset holds.
        rejected: clips that were not taken into it, with the reasons.
    """

    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    rejected: list[dict[str, str]] = field(default_factory=list)

    def in_words(self, folder: Path) -> str:
        """For people."""
        verdict = "is sound" if not self.problems else f"has {len(self.problems)} problems"
        lines = [f"The dataset {folder.name} {verdict}.", ""]
        lines += [f"  {name:<22} {_shown(value)}" for name, value in self.figures.items()]
        for title, entries in (
            ("Problems", [f"{name or 'dataset'}: {sentence}" for name, sentence in self.problems]),
            ("Not taken into it", [f"{entry['name']}: {entry['reason']}" for entry in self.rejected]),
            ("Notes", self.notes),
        ):
            if entries:
                lines += ["", f"{title}:", *(f"  {entry}" for entry in entries)]
        return "\n".join(lines) + "\n"

    def save(self, folder: Path) -> None:
        """Write report.txt and report.json."""
        atomic.write_json(folder / "report.json", {"is_sound": not self.problems, **asdict(self)})
        atomic.write_bytes(folder / "report.txt", self.in_words(folder).encode())


def validate(folder: Path, codec: Codec | None, codec_missing: str = "") -> Report:
    """Read every byte of every clip.

    Args:
        codec: what the latents are of; None for a dataset of frames, or where the codec is not there.
        codec_missing: why it is not, in a sentence.

    Raises:
        ProtocolError: there is no dataset, or its schema is unknown.
    """
    info, report = DatasetInfo.load(folder), Report()
    if (folder / REJECTED_NAME).exists():
        report.rejected = atomic.read_json(folder / REJECTED_NAME)
    if codec_missing:
        report.notes.append(f"The first frames were not decoded: {codec_missing}")
    elif codec and codec.sha256 != info.codec_sha256:
        report.problems.append(
            ("", "Its latents are of another version of the codec; make the dataset again.")
        )
        codec = None
    waiting = len(list((folder / "unpacked").glob("*.safetensors")))
    if waiting:
        report.notes.append(
            f"{waiting} clips are not packed yet; the command that makes the dataset packs them."
        )
    shards = shard_files(folder)
    try:
        reader = ShardReader(folder)
    except ProtocolError as error:
        report.problems.append(("", str(error)))
        return report
    if (info.clips, info.shards) != (len(reader), len(shards)):
        report.problems.append(
            (
                "",
                f"It says {info.clips} clips in {info.shards} shards, and has {len(reader)} in {len(shards)}.",
            )
        )
    cameras = []
    uncaptioned = 0
    for index, name in enumerate(reader.names):
        try:
            clip = reader[index]
            found = list(_problems(clip, info, codec))
        except ProtocolError as error:
            report.problems.append((name, str(error)))
            continue
        uncaptioned += not clip.caption
        report.problems += [(name, sentence) for sentence in found]
        if not found:
            cameras.append(CameraPath(clip.c2w.numpy(), clip.intrinsics.numpy(), info.size))
    if len(set(reader.names)) < len(reader):
        report.problems.append(("", "Several clips have the same name."))
    if uncaptioned:
        report.notes.append(f"{uncaptioned} of {len(reader)} clips have no caption.")
    report.figures = _figures(info, cameras, len(reader), shards)
    return report


def _problems(clip: StoredClip, info: DatasetInfo, codec: Codec | None) -> Iterator[str]:
    frames = len(clip.c2w)
    if frames % TEMPORAL_STRIDE != 1 or frames != info.frames_per_clip:
        yield f"It has {frames} poses, and a clip of this dataset has {info.frames_per_clip} = 8k + 1."
    try:
        camera = CameraPath(clip.c2w.numpy(), clip.intrinsics.numpy(), info.size)
        reason = why_unfit(camera)
        if reason:
            yield reason
    except ProtocolError as error:
        yield str(error)
    width, height = info.size
    if info.codec == NO_CODEC:
        yield from _shape("frames", clip.frames, (frames, height, width, 3), torch.uint8)
        first = None if clip.frames is None else clip.frames[0].numpy()
    else:
        latents = clip.latents
        if latents is None or latents.ndim != 4 or latents.shape[1] != (frames - 1) // TEMPORAL_STRIDE + 1:
            yield f"Its latents are {_described(latents)}, and do not fit {frames} frames."
            return
        if not latents.isfinite().all():
            yield "Its latents contain numbers that are not finite."
            return
        if codec and tuple(latents.shape[2:]) != (height // codec.stride, width // codec.stride):
            yield f"Its latents are {_described(latents)}, and do not fit {width} x {height} pixels."
            return
        first = codec.decode(latents[:, :1])[0] if codec else None
    if first is not None and first.std((0, 1)).max() < LEAST_SPREAD:
        yield f"Its first frame is one even colour ({', '.join(str(round(c)) for c in first.mean((0, 1)))})."
    if clip.depth is not None:
        yield from _shape("depth", clip.depth, (frames, height, width), torch.float16)
        if clip.depth.isnan().any() or (clip.depth <= 0).any():
            yield "Its depth contains values that are no distances."


def _shape(part: str, tensor: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[str]:
    if tensor is None or tuple(tensor.shape) != shape or tensor.dtype != dtype:
        yield f"Its {part} are {_described(tensor)}, not {shape} {dtype}."


def _described(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}"


def _figures(info: DatasetInfo, cameras: list[CameraPath], clips: int, shards: list[Path]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "clips": clips,
        "length": f"{info.frames_per_clip} frames, {(info.frames_per_clip - 1) / FPS:g} s",
        "together_min": round(clips * info.frames_per_clip / FPS / 60, 1),
        "size_px": f"{info.size[0]} x {info.size[1]}",
        "codec": info.codec,
        "source": info.source,
        "shards": len(shards),
        "disk_mb": round(sum(path.stat().st_size for path in shards) / 1e6, 1),
    }
    if cameras:
        fov = np.concatenate([field_of_view_deg(camera)[:, 0] for camera in cameras])
        speed = np.concatenate([speed_m_s(camera) for camera in cameras])
        turn = np.concatenate([turn_rate_deg_s(camera) for camera in cameras])
        way = [speed_m_s(camera).sum() / FPS for camera in cameras]
        figures |= {
            "fov_deg": [round(float(fov.min()), 1), round(float(fov.max()), 1)],
            "speed_m_s": [round(float(speed.min()), 2), round(float(speed.max()), 2)],
            "turn_deg_s": [round(float(turn.min()), 1), round(float(turn.max()), 1)],
            "way_m": [round(float(min(way)), 2), round(float(max(way)), 2)],
        }
    return figures


def _shown(value: Any) -> str:
    if isinstance(value, list):
        low, high = value
        return f"{low} to {high}"
    return str(value)
