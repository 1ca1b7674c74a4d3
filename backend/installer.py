# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets up the backend's own Python environment, for `build.py backend` and for Blender's Set Up Backend.

Run as a child process, `python installer.py --target DIR --device auto --project ROOT`, it prints one JSON
object a line, {"stage", "message", "fraction"}, and ends with the stage "done", "failed" or "cancelled".
Standard library only: it runs before anything else is there.

A target folder holds

    env-1/ env-2/ ...   virtual environments; the current one and the one before it are kept
    current.json        points at the environment to use: python, device, versions, requirements, token
    setup.log           what pip said in the last set-up

A new environment is built beside the old one, and current.json is replaced by one rename only after torch and
the others were imported in it. So a set-up that fails or is cancelled leaves the old environment in use.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_INDEX = "https://download.pytorch.org/whl/cu130"
NEEDED_GB = {"cpu": 4, "cuda": 12}

# Run in the new environment. peft is only looked for: importing it takes longer than all the others together.
PROBE = """
import importlib.metadata as m, importlib.util as u, json, subprocess, sys
import cv2, einops, embreex, imageio, imageio_ffmpeg, numpy, PIL.Image, safetensors.torch, torch
absent = [n for n in ("peft", "diffusers", "transformers", "accelerate", "huggingface_hub") if not u.find_spec(n)]
assert not absent, f"{absent} missing"
subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-version"], check=True, stdout=subprocess.DEVNULL)
torch.ones(2) @ torch.ones(2)
named = ("torch", "numpy", "safetensors", "imageio-ffmpeg", "embreex", "peft", "diffusers", "transformers")
versions = {n: m.version(n) for n in named}
versions["python"] = sys.version.split()[0]
cuda = torch.cuda.is_available()
gpu = {"name": torch.cuda.get_device_name(), "gb": torch.cuda.mem_get_info()[1] / 1e9} if cuda else None
print(json.dumps({"versions": versions, "gpu": gpu}))
"""

Report = Callable[[str, str, float], None]


class SetupError(Exception):
    """The set-up cannot go on; the message is the sentence shown to the user."""


class Cancelled(Exception):
    """The set-up was asked to stop."""


@dataclass(frozen=True)
class Status:
    """What a target folder offers. `message` says in one sentence what it is, or what is missing."""

    ready: bool
    message: str
    python: str = ""
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    token: str = ""


def read_requirements(project: Path, groups: Sequence[str]) -> list[str]:
    """The requirement lines of these dependency groups in `project`/pyproject.toml."""
    with open(project / "pyproject.toml", "rb") as file:
        known = tomllib.load(file)["dependency-groups"]
    return [line for group in groups for line in known[group]]


def environment_python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def status(target: Path, requirements: Sequence[str] | None = None) -> Status:
    """What current.json says; with `requirements`, an environment made without one of them is not ready."""
    try:
        current = json.loads((target / "current.json").read_text("utf-8"))
        python, made_for = current["python"], current["requirements"]
        found = {"python": python, "device": current["device"], "versions": current["versions"]}
        found["token"] = current["token"]
    except FileNotFoundError:
        return Status(False, "The backend is not set up yet.")
    except (ValueError, KeyError, TypeError):
        return Status(False, f"{target / 'current.json'} is damaged; set up the backend again.")
    if not Path(python).exists():
        return Status(False, f"The backend's Python is gone from {python}; set up the backend again.")
    missing = sorted(set(requirements or ()) - set(made_for))
    if missing:
        message = f"The backend was set up without {', '.join(missing)}; set it up again."
        return Status(False, message, **found)
    message = f"Ready: torch {found['versions'].get('torch', '?')} on {found['device']}."
    return Status(True, message, **found)


def detect_device() -> str:
    """`cuda` where an NVIDIA driver answers, otherwise `cpu`."""
    program = shutil.which("nvidia-smi")
    if program:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            listing = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20)
            if listing.returncode == 0 and "GPU" in listing.stdout:
                return "cuda"
    return "cpu"


def verify(python: Path | str) -> tuple[dict[str, str], dict | None]:
    """Imports the backend's packages in that environment. Returns their versions, and name and gb of the GPU if CUDA
    works."""
    probe = subprocess.run([str(python), "-I", "-c", PROBE], capture_output=True, text=True, timeout=600)
    if probe.returncode:
        reason = (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SetupError(f"The backend's packages do not load in {python}: {reason}")
    found = json.loads(probe.stdout.splitlines()[-1])
    return found["versions"], found["gpu"]


def write_pointer(
    target: Path, environment: Path, gpu: dict | None, versions: dict, requirements: list[str]
) -> None:
    """Makes `environment` the current one, by one rename; it computes on the GPU if there is one, else on the CPU."""
    pointer = {
        "schema": 1,
        "python": str(environment_python(environment)),
        "device": "cuda" if gpu else "cpu",
        "gpu": gpu,
        "versions": versions,
        "requirements": requirements,
        "token": uuid.uuid4().hex,
    }
    temporary = target / f".current.json.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(pointer, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, target / "current.json")


def install(target: Path, device: str, project: Path, extras: Sequence[str], report: Report) -> Status:
    """Builds a new environment in `target` and makes it the current one.

    `device` is auto, cpu or cuda; `extras` are further dependency groups of `project`/pyproject.toml.
    Raises SetupError with a sentence, or Cancelled; both leave what was current before untouched.
    """
    requirements = read_requirements(project, ["backend", *extras])
    wanted = detect_device() if device == "auto" else device
    target.mkdir(parents=True, exist_ok=True)
    with _only_one(target):
        report("check", f"Setting up the backend for {wanted} in {target}", 0.0)
        _remove_unused(target)
        free_gb = shutil.disk_usage(target).free / 1e9
        if free_gb < NEEDED_GB[wanted]:
            raise SetupError(
                f"The backend needs about {NEEDED_GB[wanted]} GB, but only {free_gb:.1f} GB are free in "
                f"{target}; choose another folder or make room."
            )
        environment = target / f"env-{max(_environments(target), default=0) + 1}"
        try:
            create_environment(environment, requirements, index_options(wanted), target / "setup.log", report)
            report("verify", "Loading the packages once", 0.95)
            versions, gpu = verify(environment_python(environment))
            if device == "cuda" and gpu is None:
                raise SetupError(
                    f"torch {versions['torch']} is installed but finds no CUDA device; "
                    "update the NVIDIA driver, or set up for the CPU."
                )
        except BaseException:
            shutil.rmtree(environment, ignore_errors=True)
            raise
        write_pointer(target, environment, gpu if wanted == "cuda" else None, versions, requirements)
    return status(target)


def index_options(device: str) -> list[str]:
    """pip options for the build of torch that fits the device.

    PyPI has the CUDA build for Linux and the CPU build for Windows and macOS. PyTorch's own index is asked
    for the other one; where it does not answer, for the CPU the (larger) build of PyPI does as well.
    """
    if device == "cuda":
        return ["--extra-index-url", CUDA_INDEX] if os.name == "nt" else []
    if not sys.platform.startswith("linux"):
        return []
    try:
        with urllib.request.urlopen(CPU_INDEX + "/torch/", timeout=4):
            return ["--extra-index-url", CPU_INDEX]
    except OSError:
        return []


def create_environment(
    folder: Path, requirements: list[str], options: list[str], log: Path, report: Report
) -> None:
    """Makes a virtual environment with these requirements; what venv and pip say goes to the file `log`."""
    python = str(environment_python(folder))
    with open(log, "wb") as out:
        report("environment", "Making a virtual environment", 0.02)
        _step([sys.executable, "-I", "-m", "venv", "--clear", str(folder)], out, log, lambda text: None)
        pip = [python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        report("pip", "Updating pip", 0.05)
        _step([*pip, "--upgrade", "pip>=25"], out, log, lambda text: None)
        progress = _PipProgress(folder, report)
        _step([*pip, "--progress-bar", "raw", *options, *requirements], out, log, progress)


class _PipProgress:
    """Turns pip's output into a fraction that only grows: to 0.7 while it fetches, 0.95 while it installs."""

    EXPECTED = 45

    def __init__(self, folder: Path, report: Report):
        self.folder, self.report = folder, report
        self.best, self.said = 0.1, ""

    def __call__(self, text: str) -> None:
        names = re.findall(
            r"^\s*(?:Downloading|Using cached|Processing) (?:\S*/)?(\S+?)-", text, re.MULTILINE
        )
        fraction = 0.1 + 0.6 * min(1.0, len(names) / self.EXPECTED)
        message = f"Fetching {names[-1]}" if names else "Asking the package index"
        counted = re.findall(r"^Progress (\d+) of (\d+)", text, re.MULTILINE)
        if counted and int(counted[-1][1]) > max(20_000_000, int(counted[-1][0])):
            message += f" ({int(counted[-1][0]) // 1_000_000} of {int(counted[-1][1]) // 1_000_000} MB)"
        listed = re.search(r"^Installing collected packages: (.*)$", text, re.MULTILINE)
        if listed:
            total = listed.group(1).count(",") + 1
            installed = "Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages"
            done = min(total, len(list(self.folder.glob(f"{installed}/*.dist-info"))))
            fraction, message = 0.7 + 0.25 * done / total, f"Installing packages ({done} of {total})"
        self.best = max(self.best, fraction)
        if message != self.said:
            self.said = message
            self.report("packages", message, self.best)


def _step(command: list[str], out, log: Path, follow: Callable[[str], None]) -> None:
    """Runs a command with its output in the log; `follow` gets that output so far, twice a second."""
    start = out.tell()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.5)
            text = log.read_bytes()[start:].decode("utf-8", "replace")
            follow(text)
            if child.returncode is not None:
                break
    except BaseException:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(10)
        if child.poll() is None:
            child.kill()
        raise
    out.seek(0, os.SEEK_END)
    if child.returncode:
        raise SetupError(_explain(text, log))


def _explain(text: str, log: Path) -> str:
    """One sentence for the user from what venv or pip said."""
    if re.search(r"ensurepip is\s+not\s+available|No module named '?(ensurepip|venv)", text):
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return (
            "This Python cannot make virtual environments; on Debian or Ubuntu run "
            f"`apt-get install {python}-venv`, then try again."
        )
    if "No space left on device" in text:
        return "The disk is full; make room, then set up the backend again."
    if re.search(
        r"NewConnectionError|NameResolutionError|Max retries|Network is unreachable|timed out", text
    ):
        return "The package index cannot be reached; check the network (and pip's proxy), then try again."
    missing = re.search(r"No matching distribution found for (.+)", text)
    if missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return f"The package index has no {missing.group(1).strip()} for Python {version} on this system."
    errors = re.findall(r"^(?:ERROR: |Error: )(.+)$", text, re.MULTILINE)
    lines = text.strip().splitlines() or ["no reason given"]
    return f"Installing the packages failed: {(errors or lines)[-1]} (all of it in {log})"


def _environments(target: Path) -> list[int]:
    return [int(p.name[4:]) for p in target.glob("env-*") if p.name[4:].isdigit()]


def _remove_unused(target: Path) -> None:
    """Removes leftovers of stopped set-ups and what came before the current environment, which may be in use."""
    python = Path(status(target).python)
    for number in _environments(target):
        folder = target / f"env-{number}"
        if folder not in python.parents:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """Two set-ups in one folder would remove each other's work."""
    with open(target / "setup.lock", "w") as handle:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SetupError(f"Another set-up is running in {target}; wait until it has ended.") from None
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Set up the backend's own Python environment.")
    parser.add_argument("--target", type=Path, required=True, help="folder for the environments")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--project", type=Path, required=True, help="folder with pyproject.toml")
    parser.add_argument("--extras", nargs="*", default=[], help="further dependency groups")
    options = parser.parse_args(arguments)

    last = 0.0

    def report(stage: str, message: str, fraction: float) -> None:
        nonlocal last
        last = fraction
        print(json.dumps({"stage": stage, "message": message, "fraction": round(fraction, 3)}), flush=True)

    def stop(*_):
        raise Cancelled

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    started = time.monotonic()
    try:
        ready = install(options.target.resolve(), options.device, options.project, options.extras, report)
    except Cancelled:
        report("cancelled", "The set-up was cancelled; what was set up before is still in use.", last)
        return 130
    except (SetupError, OSError) as error:
        report("failed", str(error), last)
        return 1
    report("done", f"{ready.message} ({time.monotonic() - started:.0f} s)", 1.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
