# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian with a real Blender in a folder. It is made once, in about five minutes, and needs root.

Everything runs in mount and process namespaces of its own (`unshare`), so that no mount and no process is left
behind, whatever happens, and two tests can use one chroot at a time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

SUITE, MIRROR = "sid", "http://deb.debian.org/debian"
# The suite that has Blender's current LTS; its packages' recommendations would double the size.
PACKAGES = (
    "blender", "xvfb", "xdotool", "imagemagick", "libgl1-mesa-dri", "libegl-mesa0", "libgl1",
    "libegl1", "python3-numpy", "python3-cattr", "python3-requests",
)  # fmt: skip
# Of the chroot, empty at every start and gone at the end.
FOLDER = Path("/ui-test")
_MADE = ".made-for-ui-test"


class UiTestError(Exception):
    """The test cannot go on; the message says why."""


def enter(command: list[str], folder: Path) -> None:
    """Becomes `command`, in namespaces that end with it, and it with the process that started this one.

    Raises:
        UiTestError: not root, not Linux, or no program that makes namespaces.
    """
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise UiTestError("The UI test makes a Debian in a folder, and needs Linux and root for that.")
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        raise UiTestError("The UI test needs the programs unshare and setpriv: install util-linux.")
    own = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    os.chdir(folder)
    os.execvp("setpriv", ["setpriv", "--pdeathsig", "KILL", *own, *command])


def ensure(root: Path) -> None:
    """Makes the chroot where it is missing; a half made one is begun anew.

    Raises:
        UiTestError: a step failed, and its last words; or the folder holds something else.
    """
    if (root / _MADE).exists():
        return
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UiTestError(
            f"{root} was not made by this test: name another folder with --chroot, or remove it."
        )
    _ensure_debootstrap()
    print(f"Making a Debian {SUITE} with Blender in {root}: about five minutes and 2 GB.", flush=True)
    partial = root.with_name(root.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _run(["debootstrap", "--variant=minbase", SUITE, partial, MIRROR], f"downloading Debian from {MIRROR}")
    mount_system(partial)
    for path in Path("/etc/apt/apt.conf.d").glob("*"):  # such as a proxy
        shutil.copy(path, partial / "etc/apt/apt.conf.d")
    shutil.copy("/etc/resolv.conf", partial / "etc/resolv.conf")
    apt = ["chroot", partial, "apt-get", "-q"]
    _run([*apt, "update"], "reading the list of its packages")
    _run([*apt, "install", "-y", "--no-install-recommends", *PACKAGES], "installing Blender in it")
    _run([*apt, "clean"], "removing the downloaded packages")
    (partial / _MADE).touch()
    root.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(root)  # what is mounted in it goes along


def mount_system(root: Path) -> None:
    """/proc, /dev, /sys, and empty folders in memory; all gone with the namespace."""
    if (root / "proc/self").exists() and os.path.ismount(root / FOLDER.relative_to("/")):
        return
    _mount(root / "proc", "-t", "proc", "proc")
    for name in ("dev", "sys"):
        _mount(root / name, "--bind", f"/{name}")
    for name in ("tmp", FOLDER.relative_to("/")):
        _mount(root / name, "-t", "tmpfs", "tmpfs")


def mount_backend(root: Path, environment: Path) -> None:
    """The backend's set-up folder and its Python, at the same place inside, where they cannot be written."""
    for path in (environment, *_python_places()):
        inside = root / path.relative_to("/")
        if path.is_file():
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
        _mount(inside, "--bind", path)
        _mount(inside, "-o", "remount,ro,bind")


def _python_places() -> list[Path]:
    """What lies below a virtual environment of the running Python."""
    base = Path(sys.base_prefix).resolve()
    if base != Path("/usr"):
        return [base]
    # The system's own: the chroot has a /usr with another one.
    return [base / "bin" / f"python{sysconfig.get_python_version()}", Path(sysconfig.get_path("stdlib"))]


def _ensure_debootstrap() -> None:
    if shutil.which("debootstrap"):
        return
    if shutil.which("apt-get") is None:
        raise UiTestError("The UI test needs debootstrap: install it with this system's package manager.")
    _run(["apt-get", "-q", "update"], "reading the list of this system's packages")
    packages = ["debootstrap", "debian-archive-keyring"]
    _run(["apt-get", "-q", "install", "-y", "--no-install-recommends", *packages], "installing debootstrap")


def _mount(place: Path, *arguments: object) -> None:
    if not place.exists():
        place.mkdir(parents=True)
    _run(["mount", *arguments, place])


def _run(command: list[object], what: str = "") -> None:
    """Says what it does, if that takes a while. Raises UiTestError with the command's last words."""
    if what:
        print(f"  {what}", flush=True)
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=variables)
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
        raise UiTestError(f"This failed: {what or ' '.join(map(str, command))}. The last words: {words}")
