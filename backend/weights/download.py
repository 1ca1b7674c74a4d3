# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches components from the hub: licenses first, then room on the disk, then bytes, held against their SHA-256.

Every file grows as NAME.HASH.partial beside its place, is hashed while it grows and takes its name only when it is
whole and right. A download that was stopped or killed goes on where it was: huggingface_hub's own download function
starts such a file again, so only its requests are used here, not its files.

Nobody is logged in and nothing is counted: the user's hub token is not sent, telemetry is off.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Read when huggingface_hub is imported.
os.environ.update(
    HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_IMPLICIT_TOKEN="1", HF_HUB_DISABLE_PROGRESS_BARS="1"
)

from huggingface_hub import HfApi, constants, hf_hub_url  # noqa: E402
from huggingface_hub.errors import (  # noqa: E402
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get  # noqa: E402
from huggingface_hub.utils import build_hf_headers  # noqa: E402

from ..protocol import FileLock, ProtocolError  # noqa: E402
from ..protocol.weights_folder import PARTIAL_ENDING, installed, record_installed  # noqa: E402
from ..protocol.weights_licences import unaccepted  # noqa: E402
from ..protocol.weights_registry import COMPONENTS, Component  # noqa: E402
from .notices import is_notice, notice_path, write_terms  # noqa: E402
from .verify import sha256_of  # noqa: E402

Report = Callable[[str, str, float], None]

_BLOCK = 1 << 22


@dataclass(frozen=True)
class Remote:
    """A file as the hub describes it.

    Attributes:
        place: where it is to lie.
        url: of this very commit.
        sha256: None for a small file, which git stores itself and which `blob_id` identifies.
        blob_id: git's hash of the file.
    """

    place: Path
    url: str
    size: int
    sha256: str | None
    blob_id: str

    @property
    def partial(self) -> Path:
        """Named after the content, so that another version of the file is never continued."""
        return self.place.with_name(f"{self.place.name}.{(self.sha256 or self.blob_id)[:12]}{PARTIAL_ENDING}")

    def missing_bytes(self) -> int:
        """What is still to be fetched."""
        if self.place.is_file() and self.place.stat().st_size == self.size:
            return 0
        return self.size - (self.partial.stat().st_size if self.partial.is_file() else 0)


@dataclass(frozen=True)
class Plan:
    """A component at one commit."""

    component: Component
    commit: str
    files: list[Remote]
    notices: list[Remote]


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def download(
    root: Path, component_ids: Sequence[str], report: Report, free_bytes: Callable[[Path], int] = free_bytes
) -> None:
    """Make these components whole in their folders below `root`; whole files stay as they are.

    Args:
        report: called with a stage, a sentence and the fraction done, 0..1.
        free_bytes: of the disk that a folder is on.

    Raises:
        ProtocolError: a license is not accepted, the disk is too full, the hub does not give the files, or a file is
            not what it should be; partial files stay, and the next download goes on with them.
    """
    missing = unaccepted(root, component_ids)
    if missing:
        names = ",".join(licence.id for licence in missing)
        raise ProtocolError(
            f"Nothing was downloaded, because these terms are not accepted yet: "
            f"{', '.join(licence.title for licence in missing)}; read them with `weights list` and accept them with "
            f"--accept-license {names}."
        )
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".download.lock")
    if not lock.acquire("download"):
        raise ProtocolError(f"Another download is running in {root}; wait until it has ended.")
    try:
        report("ask", "Asking the hub", 0.0)
        plans = [_plan(root, COMPONENTS[id]) for id in component_ids]
        _refuse_full_disk(root, plans, free_bytes)
        progress = _Progress(plans, report)
        for plan in plans:
            _carry_out(root, plan, progress)
    finally:
        lock.release()


def _plan(root: Path, component: Component) -> Plan:
    """What the hub has of a component at the commit that was installed, is pinned, or is the newest."""
    known = installed(root, component.id)
    revision = known.get("revision") or component.revision
    api = HfApi(token=False)
    info = _asked(
        lambda: api.model_info(component.repository, revision=revision, files_metadata=True), component
    )
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    recorded = known.get("files", {})

    def remote(path: str, place: Path, wanted: str | None) -> Remote:
        sibling = siblings.get(path)
        if sibling is None or sibling.size is None:
            raise ProtocolError(
                f"{component.repository} has no {path} at commit {info.sha[:8]}, so it is not the repository of "
                f"{component.title}; nothing was downloaded."
            )
        stored = sibling.lfs.sha256 if sibling.lfs else None
        if wanted and stored and wanted != stored:
            raise ProtocolError(
                f"{component.repository} has another {path} than the one that is known (SHA-256 {stored[:12]}… "
                f"instead of {wanted[:12]}…); nothing was downloaded."
            )
        url = hf_hub_url(component.repository, path, revision=info.sha)
        return Remote(place, url, sibling.size, stored or wanted, sibling.blob_id or "")

    files = [
        remote(
            file.path,
            root / component.id / file.name,
            recorded.get(file.name, {}).get("sha256") or file.sha256,
        )
        for file in component.files
    ]
    notices = [
        remote(path, notice_path(root, component, path), None)
        for path, sibling in siblings.items()
        if is_notice(path, sibling.size)
    ]
    return Plan(component, info.sha, files, notices)


def _refuse_full_disk(root: Path, plans: list[Plan], free_bytes: Callable[[Path], int]) -> None:
    needed = sum(file.missing_bytes() for plan in plans for file in plan.files)
    free = free_bytes(root)
    if needed > free:
        raise ProtocolError(
            f"The download needs {needed / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free in {root}; make room "
            "or choose another folder."
        )


def _carry_out(root: Path, plan: Plan, progress: _Progress) -> None:
    """Fetch what a plan lacks, then record all of it."""
    component = plan.component
    recorded = installed(root, component.id).get("files", {})
    (root / component.id).mkdir(exist_ok=True)
    files: dict[str, Any] = {}
    for file in plan.files:
        progress.start(component.title, file)
        entry = recorded.get(file.place.name)
        if not (entry and file.place.is_file() and file.place.stat().st_size == entry["size"]):
            entry = {"size": file.size, "sha256": _fetch(file, component, progress)}
        files[file.place.name] = entry
    for notice in plan.notices:
        notice.place.parent.mkdir(parents=True, exist_ok=True)
        _fetch(notice, component, None)
    write_terms(root, component)
    # What was made from these files, such as a converted checkpoint, stays recorded.
    record = {
        "repository": component.repository,
        "revision": plan.commit,
        "downloaded": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {**recorded, **files},
    }
    record_installed(root, component.id, record)


def _fetch(file: Remote, component: Component, progress: _Progress | None) -> str:
    """Make one file whole; returns its SHA-256.

    Raises:
        ProtocolError: the hub fails, or what came is not what it should be: it is removed then.
    """
    if file.place.is_file() and file.place.stat().st_size == file.size:
        digest = sha256_of(file.place)
        if _is_right(file, file.place, digest):
            return digest
    # A small file may come compressed, and then a part of it is none.
    if file.partial.is_file() and (file.sha256 is None or file.partial.stat().st_size > file.size):
        file.partial.unlink()
    with _Growing(file.partial, progress) as growing:
        headers = {**build_hf_headers(token=False), "Accept-Encoding": "identity"}
        _asked(
            lambda: http_get(
                file.url, growing, resume_size=growing.tell(), headers=headers, expected_size=file.size
            ),
            component,
        )
        digest = growing.digest.hexdigest()
        os.fsync(growing.file.fileno())
    if not _is_right(file, file.partial, digest):
        file.partial.unlink()
        raise ProtocolError(
            f"{file.place.name} of {component.title} did not arrive as the hub has it (its SHA-256 is {digest[:12]}…); "
            "it was removed: download again."
        )
    os.replace(file.partial, file.place)
    for stale in file.place.parent.glob(f"{file.place.name}.*{PARTIAL_ENDING}"):
        stale.unlink()
    return digest


def _is_right(file: Remote, path: Path, digest: str) -> bool:
    if file.sha256:
        return digest == file.sha256
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest() == file.blob_id


def _asked(request: Callable[[], Any], component: Component) -> Any:
    """The answer to a request to the hub, or one sentence on why there is none."""
    try:
        return request()
    except GatedRepoError:
        why = f"{component.repository} can only be read after logging in at {constants.ENDPOINT} and agreeing there"
        raise ProtocolError(f"{why}; download it yourself and choose its folder.") from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise ProtocolError(f"The hub has no {component.repository} at the commit that is wanted.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        raise ProtocolError(
            f"The hub refused {component.repository} ({status}); download again later: it goes on where it stopped."
        ) from None
    except ValueError as error:  # a file beyond what the hub serves over plain HTTP
        raise ProtocolError(
            f"{component.title} cannot be downloaded here ({error}); download {component.repository} with the hub's "
            "own program and choose its folder."
        ) from None
    except Exception as error:  # every network library on the way has errors of its own
        raise ProtocolError(
            f"The download of {component.title} stopped ({str(error) or type(error).__name__}); check the network and "
            "the disk, then download again: it goes on where it stopped."
        ) from error


class _Growing:
    """A partial file, and the hash of what it holds; what http_get writes to."""

    def __init__(self, path: Path, progress: _Progress | None) -> None:
        self._progress = progress
        self.digest = hashlib.sha256()
        # Unbuffered, so that what a killed process had received is there for the next one.
        self.file = open(path, "a+b", buffering=0)

    def __enter__(self) -> _Growing:
        self.file.seek(0)
        while block := self.file.read(_BLOCK):
            self._take(block)
        return self

    def __exit__(self, *_error: object) -> None:
        self.file.close()

    def write(self, chunk: bytes) -> int:
        self.file.write(chunk)
        self._take(chunk)
        return len(chunk)

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, offset: int) -> int:
        return self.file.seek(offset)

    def truncate(self) -> None:
        """http_get starts again at the beginning where a server does not send parts."""
        self.file.truncate()
        self.digest = hashlib.sha256()
        if self._progress:
            self._progress.restart()

    def _take(self, block: bytes) -> None:
        self.digest.update(block)
        if self._progress:
            self._progress.add(len(block))


class _Progress:
    """Bytes of the whole download, told after every block."""

    def __init__(self, plans: list[Plan], report: Report) -> None:
        self._report = report
        self._total = max(1, sum(file.size for plan in plans for file in plan.files))
        self._before = self._size = self._here = 0
        self._title = ""

    def start(self, title: str, file: Remote) -> None:
        """The next file."""
        self._before += self._size
        self._size, self._here, self._title = file.size, 0, title
        self.add(0)

    def restart(self) -> None:
        self._here = 0

    def add(self, count: int) -> None:
        self._here += count
        done = self._before + self._here
        message = f"{self._title}: {done / 1e9:.1f} of {self._total / 1e9:.1f} GB"
        self._report("download", message, min(1.0, done / self._total))
