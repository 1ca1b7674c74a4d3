# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian with a real Blender in a folder. It is made once, in about five minutes, and needs root.

Everything runs in mount and process namespaces of its own (`unshare`), so that no mount and no process can be left
behind, whatever happens.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SUITE, MIRROR = "sid", "http://deb.debian.org/debian"
# The suite that has Blender's current LTS; its packages' recommendations would double the size.
PACKAGES = (
    "blender", "xvfb", "xdotool", "x11-utils", "imagemagick", "libgl1-mesa-dri", "libegl-mesa0", "libgl1", "libegl1",
    "python3-numpy", "python3-cattr", "python3-requests",
)  # fmt: skip
_READY = "ui-test-ready"


class UiTestError(Exception):
    """The window cannot be had; the message says why."""


def require_root() -> None:
    """Raises UiTestError unless this is root on a system with the tools that make a chroot."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise UiTestError("The UI test makes a Debian in a folder, and needs Linux and root for that.")
    if shutil.which("unshare") is None:
        raise UiTestError("The UI test needs the program unshare; install util-linux.")


def ensure(root: Path) -> None:
    """Make the chroot if it is not whole.

    Raises:
        UiTestError: a step failed; its last words are in the message.
    """
    if (root / _READY).exists() or (root / "usr/bin/blender").exists():
        return
    if shutil.which("debootstrap") is None:
        _run(
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", "debootstrap"],
            "installing debootstrap",
        )
    print(f"Making a Debian {SUITE} with Blender in {root} (about five minutes, 2 GB).", flush=True)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    _run(["debootstrap", "--variant=minbase", SUITE, str(root), MIRROR], "making the Debian")
    mount_system(root)
    for path in Path("/etc/apt/apt.conf.d").glob("*"):  # such as a proxy
        shutil.copy(path, root / "etc/apt/apt.conf.d")
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ["chroot", str(root), "apt-get"]
    _run([*apt, "update", "-q"], "reading the package lists", quiet)
    _run([*apt, "install", "-y", "-q", "--no-install-recommends", *PACKAGES], "installing Blender", quiet)
    (root / _READY).touch()


def mount_system(root: Path) -> None:
    """/proc, /dev and /sys; gone with the namespace."""
    if not (root / "proc/self").exists():
        _run(["mount", "-t", "proc", "proc", str(root / "proc")], "mounting /proc")
    for name in ("dev", "sys"):
        if not any((root / name).iterdir()) or not (root / "dev/pts").exists():
            _run(["mount", "--bind", f"/{name}", str(root / name)], f"mounting /{name}")


def mount_read_only(root: Path, path: Path) -> None:
    """A folder of this system at the same place inside, where it cannot be written."""
    target = root / path.relative_to("/")
    target.mkdir(parents=True, exist_ok=True)
    _run(["mount", "--bind", str(path), str(target)], f"mounting {path}")
    _run(["mount", "-o", "remount,ro,bind", str(target)], f"mounting {path}")


def in_own_namespaces(command: list[str], **options: object) -> int:
    """Run a command whose mounts and processes end with it."""
    unshare = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    return subprocess.run([*unshare, *command], **options).returncode


def _run(command: list[str], what: str, variables: dict[str, str] | None = None) -> None:
    run = subprocess.run(command, capture_output=True, text=True, env=variables)
    if run.returncode:
        said = (run.stderr.strip() or run.stdout.strip() or "it says nothing").splitlines()[-1]
        raise UiTestError(f"Failed at {what}: {said}")
