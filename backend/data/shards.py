# SPDX-License-Identifier: GPL-3.0-or-later
"""Datasets on disk: a folder with `dataset.json` and shards of clips, written clip by clip, read by index.

    dataset.json            schema version, codec, size, frame rate, source, settings, counts
    00000.safetensors ...   at most about 256 MB each; for every clip
        <clip>.latents      (C, T, h, w) float16, where a codec was asked for; else
        <clip>.frames       (F, H, W, 3) uint8, sRGB
        <clip>.c2w          (F, 4, 4) float64, OpenCV axes, a world with z up, metres
        <clip>.intrinsics   (F, 4) float32, fx, fy, cx, cy in pixels of the dataset's size
        <clip>.depth        (F, H, W) float16, metres along the optical axis, inf in the sky; may be missing
                            the header's metadata has `clips`: JSON, clip -> caption and origin
    unpacked/               finished clips that wait until they fill a shard

A clip that is finished is in `unpacked` and survives a crash; a shard is renamed into place before its clips leave.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..models.tensor_file import FileTensor, mapped, write
from ..protocol import FPS, FileLock, ProtocolError, atomic
from ..protocol.records import from_record

SCHEMA_VERSION = 1
SHARD_BYTES = 256_000_000
INFO_NAME = "dataset.json"
_SHARD = re.compile(r"(\d{5,})\.safetensors")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")


@dataclass(frozen=True)
class DatasetInfo:
    """What `dataset.json` says.

    Attributes:
        codec: "none" for frames, else what made the latents: a key of codecs.CODECS.
        codec_sha256: of the codec's statistics; latents of another one mean other pictures. Empty for frames.
        size: (width, height) of the frames in pixels.
        frames_per_clip: 8k + 1.
        source: "blockout", "blender" or "footage".
        settings: of the source; a run that goes on must have the same.
        clips, shards: counted when the last shard was written.
    """

    codec: str
    codec_sha256: str
    size: tuple[int, int]
    frames_per_clip: int
    source: str
    settings: dict[str, Any] = field(default_factory=dict)
    fps: int = FPS
    clips: int = 0
    shards: int = 0
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))

    def save(self, folder: Path) -> None:
        """Replace `dataset.json`."""
        atomic.write_json(folder / INFO_NAME, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> DatasetInfo:
        """Read `dataset.json`.

        Raises:
            ProtocolError: there is no dataset, it is damaged, or this version does not know its schema.
        """
        if not (folder / INFO_NAME).is_file():
            raise ProtocolError(f"{folder} is no dataset: it has no {INFO_NAME}.")
        record = atomic.read_json(folder / INFO_NAME)
        version = record.get("schema_version") if isinstance(record, dict) else None
        if version != SCHEMA_VERSION:
            raise ProtocolError(
                f"The dataset {folder} has the schema version {version!r}, and this version reads {SCHEMA_VERSION}; "
                "make the dataset again, or use the version that wrote it."
            )
        info = from_record(cls, record, f"{INFO_NAME} in {folder}")
        if len(info.size) != 2 or not all(isinstance(side, int) and side > 0 for side in info.size):
            raise ProtocolError(
                f"{INFO_NAME} in {folder}: size must be width and height in pixels, not {info.size}."
            )
        return info


class StoredClip(NamedTuple):
    """A clip of a dataset. Its tensors are mapped from the file and must not be written to; shapes as above."""

    name: str
    caption: str
    origin: dict[str, Any]
    c2w: Tensor
    intrinsics: Tensor
    latents: Tensor | None
    frames: Tensor | None
    depth: Tensor | None


class ShardReader:
    """The packed clips of a dataset in a fixed order. Nothing is read before it is asked for.

    Raises:
        ProtocolError: there is no dataset, its schema is unknown, or a shard is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info = DatasetInfo.load(folder)
        self._entries = [
            (path, name, said) for path in shard_files(folder) for name, said in clips_in(path).items()
        ]

    @property
    def names(self) -> list[str]:
        return [name for _, name, _ in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def caption(self, index: int) -> str:
        return self._entries[index][2]["caption"]

    def __getitem__(self, index: int) -> StoredClip:
        path, name, said = self._entries[index]
        try:
            tensors = mapped(path)
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        read = {
            part: tensors[f"{name}.{part}"].read() if f"{name}.{part}" in tensors else None
            for part in ("c2w", "intrinsics", "latents", "frames", "depth")
        }
        if read["c2w"] is None or read["intrinsics"] is None:
            raise _damaged(path, f"the clip {name} has no camera")
        return StoredClip(name, said["caption"], said["origin"], **read)


class ShardWriter:
    """Adds clips to a dataset, which it begins or goes on with; one writer at a time.

    Raises:
        ProtocolError: another process writes it, or it was begun with other settings.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, info: DatasetInfo, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder, self._shard_bytes = folder, shard_bytes
        if folder.is_dir() and not (folder / INFO_NAME).exists() and any(folder.iterdir()):
            raise ProtocolError(
                f"{folder} holds other files and is no dataset; name an empty or a new folder."
            )
        self._unpacked = folder / "unpacked"
        self._unpacked.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        if not self._lock.acquire(f"process {os.getpid()}"):
            raise ProtocolError(
                f"Another process writes the dataset {folder} ({self._lock.note()}); wait for it."
            )
        try:
            self.info = self._begun(info)
            self._recover()
        except BaseException:
            self._lock.release()
            raise

    @property
    def names(self) -> set[str]:
        """The clips that are there, packed or not."""
        return self._packed | {path.stem for path in self._waiting()}

    def add(self, name: str, tensors: Mapping[str, Tensor], caption: str, origin: dict[str, Any]) -> None:
        """Keep a finished clip.

        Args:
            tensors: its parts by name: latents or frames, c2w, intrinsics and perhaps depth.

        Raises:
            ValueError: the name is taken or has other characters than it may.
        """
        if not _NAME.fullmatch(name) or name in self.names:
            raise ValueError(f"{name!r} cannot be the name of a new clip.")
        parts = {f"{name}.{part}": _file_tensor(tensor) for part, tensor in tensors.items()}
        said = {name: {"caption": caption, "origin": origin}}
        _write(self._unpacked / f"{name}.safetensors", parts, said)
        self._pack(only_full=True)

    def finish(self) -> DatasetInfo:
        """Pack what waits and count."""
        self._pack(only_full=False)
        self._unpacked.rmdir()
        self.info.save(self.folder)
        return self.info

    def close(self) -> None:
        """Let another process write."""
        self._lock.release()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begun(self, info: DatasetInfo) -> DatasetInfo:
        """The dataset's own record, if there is one, which must be about the same."""
        if not (self.folder / INFO_NAME).exists():
            info.save(self.folder)
            return info
        there = DatasetInfo.load(self.folder)
        wanted = json.loads(json.dumps(asdict(replace(info, clips=there.clips, shards=there.shards))))
        found = json.loads(json.dumps(asdict(there)))
        different = [name for name in wanted if wanted[name] != found[name]]
        if different:
            listed = "; ".join(f"{name} is {found[name]} there and {wanted[name]} here" for name in different)
            raise ProtocolError(
                f"The dataset {self.folder} was begun with other settings ({listed}); use the same ones or another "
                "folder."
            )
        return there

    def _recover(self) -> None:
        """Remove what a crash left behind: half-written files, and clips that their shard holds already."""
        for half in (*self.folder.glob(".*.tmp"), *self._unpacked.glob(".*.tmp")):
            half.unlink()
        shards = shard_files(self.folder)
        self._next = 1 + max((int(path.stem) for path in shards), default=-1)
        self._packed = {name for path in shards for name in clips_in(path)}
        for path in self._waiting():
            if path.stem in self._packed:
                path.unlink()
        self._count(len(shards))

    def _waiting(self) -> list[Path]:
        return sorted(self._unpacked.glob("*.safetensors"))

    def _pack(self, only_full: bool) -> None:
        """Move waiting clips into shards, in the order of their names; the last, unfilled one only at the end."""
        group, size = [], 0
        for path in self._waiting():
            added = path.stat().st_size
            if group and size + added > self._shard_bytes:
                self._join(group)
                group, size = [], 0
            group.append(path)
            size += added
        if group and not only_full:
            self._join(group)

    def _join(self, clips: list[Path]) -> None:
        tensors: dict[str, FileTensor] = {}
        said: dict[str, Any] = {}
        for path in clips:
            tensors |= mapped(path)
            said |= clips_in(path)
        _write(self.folder / f"{self._next:05d}.safetensors", tensors, said)
        self._packed |= set(said)
        self._next += 1
        self._count(self.info.shards + 1)
        del tensors  # Windows removes no file that is mapped
        for path in clips:
            path.unlink()

    def _count(self, shards: int) -> None:
        self.info = replace(self.info, clips=len(self._packed), shards=shards)
        self.info.save(self.folder)


def shard_files(folder: Path) -> list[Path]:
    """The shards of a dataset in their order."""
    return sorted(path for path in folder.glob("*.safetensors") if _SHARD.fullmatch(path.name))


def clips_in(path: Path) -> dict[str, dict[str, Any]]:
    """Clip -> caption and origin, from a shard's header.

    Raises:
        ProtocolError: the shard is damaged.
    """
    try:
        with safe_open(path, "pt") as shard:
            clips = json.loads((shard.metadata() or {})["clips"])
        return {name: {"caption": said["caption"], "origin": said["origin"]} for name, said in clips.items()}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: object) -> ProtocolError:
    return ProtocolError(
        f"The shard {path} is damaged ({' '.join(str(why).split())}); remove it and run the same data command again."
    )


def _file_tensor(tensor: Tensor) -> FileTensor:
    return FileTensor(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def _write(path: Path, tensors: Mapping[str, FileTensor], clips: dict[str, Any]) -> None:
    """Atomically; whatever happens, no half-written file stays."""
    partial = path.with_name(f".{path.name}.tmp")
    try:
        write(partial, tensors, {"format": "pt", "clips": json.dumps(clips)})
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
