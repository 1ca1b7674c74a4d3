# SPDX-License-Identifier: GPL-3.0-or-later
"""The job folder: the interface between Blender, the backend and a farm."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import atomic
from .blockout import Blockout
from .camera_path import CameraPath
from .clip import Clip
from .errors import ProtocolError
from .events import EventLog, EventReader
from .file_lock import FileLock
from .fingerprint import fingerprint
from .preset import Preset
from .records import from_record
from .shot import Shot, Source, check_schema_version
from .state import JobState, StateFile, StateRecord

_NAME = re.compile(r"(?P<code>[A-Za-z0-9][A-Za-z0-9_]*)-v(?P<version>\d{3,})")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class JobFolder:
    """One folder per job, named like 010_0030-v002; every path inside is relative to it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"JobFolder({str(self.path)!r})"

    @property
    def name(self) -> str:
        """Folder name, shot code and take in one: 010_0030-v002."""
        return self.path.name

    @property
    def take(self) -> int:
        """The version in the folder's name; 0 if somebody renamed the folder freely."""
        match = _NAME.fullmatch(self.name)
        return int(match["version"]) if match else 0

    @property
    def shot_json(self) -> Path:
        return self.path / "shot.json"

    @property
    def camera_npz(self) -> Path:
        return self.path / "camera.npz"

    @property
    def first_frame_png(self) -> Path:
        return self.path / "first_frame.png"

    @property
    def blockout_npz(self) -> Path:
        return self.path / "blockout.npz"

    @property
    def preview(self) -> Path:
        """Folder with the growing clip.mp4 and latest.png."""
        return self.path / "preview"

    @property
    def resume(self) -> Path:
        """Folder with what a worker needs to go on with a job that another one began."""
        return self.path / "resume"

    @property
    def clip_mp4(self) -> Path:
        return self.path / "clip.mp4"

    @property
    def clip_json(self) -> Path:
        return self.path / "clip.json"

    @property
    def log_txt(self) -> Path:
        return self.path / "log.txt"

    @property
    def events(self) -> EventLog:
        return EventLog(self.path / "events.jsonl")

    def event_reader(self) -> EventReader:
        """A reader that starts at the first event."""
        return EventReader(self.path / "events.jsonl")

    @property
    def state_file(self) -> StateFile:
        return StateFile(self.path / "state.json")

    def state(self) -> StateRecord | None:
        """Where the job stands; None if it was exported and never queued."""
        return self.state_file.read()

    def queue(self, reason: str = "Waiting for a worker.") -> None:
        """Make the job wanted: new, or again after it failed or was cancelled."""
        self._cancel.unlink(missing_ok=True)
        self.state_file.move(JobState.QUEUED, reason)

    def change_places(self, other: JobFolder) -> None:
        """Let two waiting jobs change places in the queue.

        Raises:
            ProtocolError: one of them does not wait any more; both keep their places.
        """
        first, second = self.lock, other.lock
        try:
            if not (first.acquire("queue") and second.acquire("queue")):
                raise ProtocolError(f"A worker has just taken {self.name} or {other.name}.")
            here, there = self.state(), other.state()
            if not all(record and record.state == JobState.QUEUED for record in (here, there)):
                raise ProtocolError(f"{self.name} or {other.name} does not wait any more.")
            self.state_file.put_in_place(there.submitted)
            other.state_file.put_in_place(here.submitted)
        finally:
            first.release()
            second.release()

    @property
    def _cancel(self) -> Path:
        return self.path / "cancel"

    def request_cancel(self) -> None:
        """Ask the worker to stop at the next step."""
        self._cancel.touch()

    def cancel_requested(self) -> bool:
        return self._cancel.exists()

    @property
    def lock(self) -> FileLock:
        """Held by the worker that has the job, as long as it lives."""
        return FileLock(self.path / ".lock")

    def source(self) -> Source:
        """Where the shot came from, without its camera and blockout, which take long to read.

        Raises:
            ProtocolError: shot.json is missing or damaged.
        """
        return from_record(Source, self._shot_record().get("source"), "The shot's source")

    def shot_preset(self) -> Preset:
        """How the clip is made, without the rest of the shot.

        Raises:
            ProtocolError: shot.json is missing or damaged.
        """
        return Preset.from_record(self._shot_record().get("preset"))

    def _shot_record(self) -> dict[str, Any]:
        record = atomic.read_json(self.shot_json)
        check_schema_version(record, self.shot_json.name)
        return record

    def fingerprint(self) -> dict[str, str]:
        """What the shot was made from, see `fingerprint.py`; empty for jobs from before it was kept."""
        try:
            record = atomic.read_json(self.shot_json)
        except ProtocolError:
            return {}
        kept = record.get("fingerprint") if isinstance(record, dict) else None
        return kept if isinstance(kept, dict) else {}

    def shot(self) -> Shot:
        """Read and check the whole shot.

        Raises:
            ProtocolError: a file is missing or damaged, or the files contradict each other.
        """
        record = atomic.read_json(self.shot_json)
        if not self.first_frame_png.exists():
            raise ProtocolError(f"first_frame.png is missing from {self.path}; export the shot again.")
        camera = CameraPath.load(self.camera_npz)
        with open(self.first_frame_png, "rb") as file:
            _check_first_frame(file.read(24), camera)
        has_blockout = isinstance(record, dict) and record.get("has_blockout")
        blockout = Blockout.load(self.blockout_npz) if has_blockout else None
        return Shot.from_record(record, camera, blockout)

    def clip(self) -> Clip:
        """The result's record; the job is done once it exists."""
        return Clip.load(self.clip_json)

    @classmethod
    def create(cls, jobs_root: Path, shot: Shot, first_frame_png: bytes, queue: bool = True) -> JobFolder:
        """Write a job whole under a hidden name, then make it visible by one rename.

        Args:
            jobs_root: made if it does not exist.
            shot: what to make.
            first_frame_png: PNG file content of the camera's image size.
            queue: whether a worker may take it at once.

        Raises:
            ProtocolError: the first frame does not fit the camera.
            OSError: the folder cannot be written; nothing is left behind.
        """
        _check_first_frame(first_frame_png, shot.camera)
        with _hidden_folder(jobs_root, shot.code) as hidden:
            shot.camera.save(hidden.camera_npz)
            if shot.blockout is not None:
                shot.blockout.save(hidden.blockout_npz)
            atomic.write_bytes(hidden.first_frame_png, first_frame_png)
            chosen = first_frame_png if shot.source.first_frame else None
            record = shot.to_record() | {"fingerprint": fingerprint(shot, chosen)}
            atomic.write_json(hidden.shot_json, record)
            if queue:
                hidden.queue()
            return hidden._publish(jobs_root, shot.code)

    def submit_copy(self, jobs_root: Path, code: str) -> JobFolder:
        """Queue a copy in another jobs folder, under the same name where that is free.

        Args:
            jobs_root: made if it does not exist.
            code: of this job's shot, which the caller has read and checked.

        Raises:
            OSError: the copy cannot be written; nothing is left behind.
        """
        with _hidden_folder(jobs_root, code) as hidden:
            for path in (self.shot_json, self.camera_npz, self.first_frame_png, self.blockout_npz):
                if path.exists():
                    shutil.copyfile(path, hidden.path / path.name)
            hidden.queue()
            return hidden._publish(jobs_root, code, wanted=self.name)

    def _publish(self, jobs_root: Path, code: str, wanted: str = "") -> JobFolder:
        """Rename this hidden folder to `wanted` if that is free, else to the next free version of the shot."""
        while True:
            free = wanted and not (jobs_root / wanted).exists()
            target = jobs_root / (wanted if free else _next_name(jobs_root, code))
            try:
                self.path.rename(target)
            except OSError:
                if target.exists():  # somebody else took the name in between
                    continue
                raise
            return JobFolder(target)


@contextmanager
def _hidden_folder(jobs_root: Path, code: str) -> Iterator[JobFolder]:
    """A new folder that nobody takes for a job; it goes unless it was published."""
    jobs_root.mkdir(parents=True, exist_ok=True)
    hidden = JobFolder(jobs_root / f".{code}-{uuid.uuid4().hex[:8]}.tmp")
    hidden.path.mkdir()
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden.path, ignore_errors=True)


def list_jobs(jobs_root: Path) -> list[JobFolder]:
    """Visible job folders of `jobs_root`, by name, damaged ones too; foreign folders are passed over."""
    if not jobs_root.is_dir():
        return []
    return [
        JobFolder(path)
        for path in sorted(jobs_root.iterdir())
        if not path.name.startswith(".") and any((path / n).is_file() for n in ("shot.json", "state.json"))
    ]


def _next_name(jobs_root: Path, code: str) -> str:
    """The next free name of a shot's job: 010_0030-v002 when v001 exists."""
    taken = (_NAME.fullmatch(path.name) for path in jobs_root.iterdir())
    versions = [int(match["version"]) for match in taken if match and match["code"] == code]
    return f"{code}-v{max(versions, default=0) + 1:03d}"


def _check_first_frame(png: bytes, camera: CameraPath) -> None:
    """Refuse what is no PNG file, or not of the camera's image size; the first 24 bytes will do."""
    if len(png) < 24 or png[:8] != _PNG_SIGNATURE or png[12:16] != b"IHDR":
        raise ProtocolError("The first frame is not a PNG image; export the shot again.")
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    if (width, height) != camera.image_size:
        raise ProtocolError(
            f"The first frame is {width}x{height} pixels, but the camera was exported for "
            f"{camera.image_size[0]}x{camera.image_size[1]}; export the shot again."
        )
