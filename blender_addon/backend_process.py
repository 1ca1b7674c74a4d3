# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's own Python: find it, start a worker in it.

Only children that this Blender started are ever signalled, and only through their handle: a process id read
from a file may belong to somebody else by now. A worker of an earlier Blender is left to finish and stop by
itself; it takes no further job once another version of the extension is installed. No bpy here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..backend.protocol import ProtocolError

# Seconds without work after which a worker gives its memory back and ends.
IDLE_EXIT_S = 300

_DROPPED = {
    "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONSTARTUP", "PYTHONSAFEPATH", "OCIO",
}  # fmt: skip


@dataclass(frozen=True)
class Backend:
    """A Python environment that has the backend's packages.

    Attributes:
        python: its interpreter.
        device: "cpu" or "cuda".
        summary: what it is, in words.
        gpu: name of the graphics card it computes on, and its memory in 1e9 bytes; None if that is not known.
    """

    python: Path
    device: str
    summary: str
    gpu: tuple[str, float] | None = None


def find_backend(location: Path) -> Backend:
    """The backend in a folder: one made by Set Up Backend, or any virtual environment.

    Raises:
        ProtocolError: there is none; the message says what to do.
    """
    try:
        pointer = json.loads((location / "current.json").read_text(encoding="utf-8"))
        python, device = Path(pointer["python"]), str(pointer["device"])
        torch_version = str(pointer["versions"].get("torch", "?")).partition("+")[0]
        card = pointer.get("gpu")
        gpu = (str(card["name"]), float(card["gb"])) if card else None
        place = "the CPU" if device == "cpu" else gpu[0] if gpu else device.upper()
        summary = f"torch {torch_version} on {place}"
    except FileNotFoundError:
        python = location / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        if not python.is_file():
            raise ProtocolError("The backend is not set up yet; press Set Up Backend.") from None
        device, gpu, summary = "cpu", None, f"the environment {location}, on the CPU"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ProtocolError(f"{location / 'current.json'} is damaged; set up the backend again.") from None
    if not python.is_file():
        raise ProtocolError(f"The backend's Python is gone from {python}; set up the backend again.")
    return Backend(python, device, summary, gpu)


def clean_environment(environment: Mapping[str, str], blender_folder: Path) -> dict[str, str]:
    """Without what Blender exports for itself: its Python, its colour configuration, its libraries."""
    kept = {
        name: value
        for name, value in environment.items()
        if name not in _DROPPED and not name.startswith("BLENDER_")
    }
    libraries = [
        folder
        for folder in kept.pop("LD_LIBRARY_PATH", "").split(os.pathsep)
        if folder and not Path(folder).is_relative_to(blender_folder)
    ]
    if libraries:
        kept["LD_LIBRARY_PATH"] = os.pathsep.join(libraries)
    return kept


class Child:
    """A child process in a group of its own that writes to a file, so that nobody has to read its pipe."""

    def __init__(self, command: Sequence[str | Path], cwd: Path, output: Path, blender_folder: Path) -> None:
        self.output = output
        self.output_start = output.stat().st_size if output.exists() else 0
        if os.name == "nt":
            group = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
        else:
            group = {"start_new_session": True}
        with open(output, "ab") as file:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env=clean_environment(os.environ, blender_folder),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                **group,
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to end in order."""
        if self.exit_code is None:
            self._process.send_signal(signal.CTRL_BREAK_EVENT if os.name == "nt" else signal.SIGTERM)

    def last_words(self) -> str:
        """The last line it wrote, which for a traceback is the error."""
        with open(self.output, "rb") as file:
            file.seek(max(self.output_start, self.output.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def start_worker(
    backend: Backend, jobs_root: Path, weights: Path, project: Path, blender_folder: Path
) -> Child:
    """Start a resident worker for the jobs of one folder; what it says goes to `worker.log` there.

    Args:
        weights: folder of the released weights, whether or not there are any.

    Raises:
        OSError: the interpreter does not start, or the log cannot be written.
    """
    command = [backend.python, "-m", "backend", "worker", "--jobs", jobs_root]
    command += ["--device", backend.device, "--weights", weights, "--idle-exit", str(IDLE_EXIT_S)]
    return Child(command, project, jobs_root / "worker.log", blender_folder)
