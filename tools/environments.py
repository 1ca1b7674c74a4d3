# SPDX-License-Identifier: GPL-3.0-or-later
"""The Python environments of this checkout, in .env/: the backend's, and one for each Blender version.

.env is a set-up folder of backend/installer.py like the one a user gets from Blender: current.json names
the environment in use, and .env/backend is a link to it, so that .env/backend/bin/python stays valid.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from backend import installer

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".env"
# Each version of Blender's Python module exists for one version of Python; the demo runs in the first.
BLENDER_FOR_PYTHON = {(3, 11): ("5.0", "4.5"), (3, 13): ("5.2",)}


def blender_versions() -> tuple[str, ...]:
    """The Blender versions that this Python can load; SetupError with a sentence if there are none."""
    versions = BLENDER_FOR_PYTHON.get(sys.version_info[:2])
    if versions is None:
        raise installer.SetupError(
            "Blender's Python module does not exist for this Python {}.{}: run build.py with Python 3.11 "
            "(Blender 5.0 and 4.5) or Python 3.13 (Blender 5.2).".format(*sys.version_info)
        )
    return versions


def clean_variables(**extra: str) -> dict[str, str]:
    """The environment variables for a child, without what would leak another Python's packages into it."""
    leaking = ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "VIRTUAL_ENV")
    return {**{k: v for k, v in os.environ.items() if k not in leaking}, **extra}


class ProgressLine:
    """Progress on one line in a terminal; elsewhere a new line every ten seconds or for a new stage."""

    def __init__(self) -> None:
        self.stage, self.printed_s, self.width = "", 0.0, 0

    def __call__(self, stage: str, message: str, fraction: float) -> None:
        text = f"  {fraction:4.0%}  {message}"
        if sys.stdout.isatty():
            print("\r" + text.ljust(self.width), end="", flush=True)
            self.width = len(text)
        elif stage != self.stage or time.monotonic() - self.printed_s > 10:
            print(text, flush=True)
            self.printed_s = time.monotonic()
        self.stage = stage

    def end(self) -> None:
        if sys.stdout.isatty() and self.stage:
            print()


def ensure_backend(device: str = "auto", repair: bool = False) -> Path:
    """The backend's Python, set up first where it is missing, incomplete, for another device or broken."""
    requirements = installer.read_requirements(ROOT, ["backend", "test"])
    state = installer.status(ENVIRONMENTS, requirements)
    if not state.python and _adopt(requirements):
        state = installer.status(ENVIRONMENTS, requirements)
    wrong_device = device != "auto" and state.ready and state.device != device
    if not state.ready or wrong_device or repair:
        why = f"It was set up for {state.device}." if wrong_device else state.message
        print(f"Setting up the backend's environment in {ENVIRONMENTS} (about 2 GB, some minutes). {why}")
        line, started = ProgressLine(), time.monotonic()
        try:
            state = installer.install(ENVIRONMENTS.resolve(), device, ROOT, ["test"], line)
        finally:
            line.end()
        print(f"{state.message} ({time.monotonic() - started:.0f} s)")
    _link_backend(Path(state.python).parents[1])
    return Path(state.python)


def _adopt(requirements: list[str]) -> bool:
    """Takes over an environment that somebody made by hand as .env/backend, if it has what is asked for."""
    folder = ENVIRONMENTS / "backend"
    python = installer.environment_python(folder)
    if not python.exists() or not _satisfied(python, requirements):
        return False
    try:
        versions, gpu = installer.verify(python)
    except installer.SetupError:
        return False
    found = gpu if installer.detect_device() == "cuda" else None
    installer.write_pointer(ENVIRONMENTS, folder.resolve(), found, versions, requirements)
    return True


def _link_backend(environment: Path) -> None:
    link = ENVIRONMENTS / "backend"
    if os.name == "nt" or (link.exists() and link.samefile(environment)):
        return
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    temporary = ENVIRONMENTS / f".backend.{os.getpid()}"
    temporary.symlink_to(environment.name)
    temporary.replace(link)


def ensure_blender(version: str) -> Path:
    """The Python that has this version of Blender as the module bpy, set up first where it is missing."""
    folder = ENVIRONMENTS / f"blender-{version}"
    python, stamp = installer.environment_python(folder), folder / "requirements.json"
    requirements = installer.read_requirements(ROOT, [f"blender-{version}"])
    made_for = json.loads(stamp.read_text("utf-8")) if python.exists() and stamp.exists() else None
    if made_for == requirements:
        return python
    if not (python.exists() and _satisfied(python, requirements)):
        print(f"Setting up Blender {version} as a Python module in {folder} (about 1 GB).")
        ENVIRONMENTS.mkdir(exist_ok=True)
        line, started = ProgressLine(), time.monotonic()
        try:
            log = ENVIRONMENTS / f"blender-{version}.log"
            installer.create_environment(folder, requirements, [], log, line)
        finally:
            line.end()
        print(f"Blender {version} is installed ({time.monotonic() - started:.0f} s).")
    _check_blender(python, version)
    stamp.write_text(json.dumps(requirements), "utf-8")
    return python


def _check_blender(python: Path, version: str) -> None:
    probe = "import bpy, os; print(bpy.app.version_string, flush=True); os._exit(0)"
    run = subprocess.run(
        [str(python), "-c", probe], capture_output=True, text=True, timeout=300, env=clean_variables()
    )
    if run.returncode or not run.stdout.strip().split("\n")[-1].startswith(version):
        reason = (run.stderr.strip().splitlines() or ["it says nothing"])[-1]
        hint = ""
        if "cannot open shared object file" in reason:
            hint = " On Debian: apt-get install " + " ".join(SYSTEM_LIBRARIES)
        raise installer.SetupError(f"Blender {version} does not load in {python}: {reason}.{hint}")


# What the bpy wheel and its software renderer load from the system; a bare Debian has none of them.
SYSTEM_LIBRARIES = (
    "libegl1", "libegl-mesa0", "libgl1", "libgl1-mesa-dri", "libgomp1", "libice6", "libsm6", "libx11-6",
    "libxext6", "libxfixes3", "libxi6", "libxkbcommon0", "libxrender1", "libxxf86vm1",
)  # fmt: skip


def _satisfied(python: Path, requirements: list[str]) -> bool:
    """Whether every requirement is installed in range: pip, without an index, would have nothing to do."""
    pip = [str(python), "-I", "-m", "pip", "install", "--no-index", "--no-deps", "--dry-run"]
    run = subprocess.run([*pip, *requirements], capture_output=True, text=True, timeout=120)
    return run.returncode == 0 and "Would install" not in run.stdout
