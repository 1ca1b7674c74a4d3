# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole test: a chroot, a window, the steps, a table and a sheet of pictures."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .. import package
from ..environments import ENVIRONMENTS, ROOT
from . import chroot
from .chroot import UiTestError
from .scenario import steps
from .window import Window

_INSIDE = "--inside"


def main() -> int:
    parser = argparse.ArgumentParser(prog="build.py ui-test")
    parser.add_argument("--chroot", type=Path, required=True, help="where its Debian is or goes")
    parser.add_argument("--output", type=Path, required=True, help="folder for the pictures")
    parser.add_argument(
        "--steps", type=lambda text: text.split(","), help="only these, such as install,demo_scene"
    )
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if not options.inside:
            chroot.enter([sys.executable, "-m", "tools.ui_test", _INSIDE, *sys.argv[1:]], ROOT)
        return test(options.chroot, options.output, options.steps)
    except UiTestError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def test(root: Path, output: Path, chosen: list[str] | None) -> int:
    """Inside of the namespaces: every step, or the chosen ones; 1 if one of them failed."""
    started = time.monotonic()
    chroot.ensure(root)
    print(f"The Debian is ready ({time.monotonic() - started:.0f} s).", flush=True)
    chroot.mount_system(root)
    chroot.mount_backend(root, ENVIRONMENTS.resolve())
    _empty(output)
    window = Window(root, output)
    archive = package.build_zip(ROOT, ROOT / "dist")
    started, failed = time.monotonic(), 0
    wanted = [pair for pair in steps(archive, ENVIRONMENTS.resolve()) if chosen is None or pair[0] in chosen]
    for number, (name, step) in enumerate(wanted, 1):
        window.step = f"{number:02d}_{name}"
        failed += not _passes(window, step)
    _sheet(window, output)
    print(f"\n{number - failed} of {number} steps passed in {time.monotonic() - started:.0f} s.")
    print(f"Pictures: {output}, all of them on sheet.png")
    return 1 if failed else 0


def _passes(window: Window, step) -> bool:
    """Does a step, takes its picture if it took none, and prints its line of the table."""
    started, before = time.monotonic(), len(window.taken)
    try:
        seen, passed = step(window), True
    except UiTestError as error:
        seen, passed = str(error), False
    if passed and len(window.taken) == before or not passed:
        window.picture()
    words = "ok" if passed else "FAILED"
    names = ", ".join(path.name for path in window.taken[before:])
    print(f"{words:<7}{window.step:<19}{time.monotonic() - started:4.0f} s  {seen}  [{names}]", flush=True)
    return passed


def _empty(output: Path) -> None:
    """Takes the pictures of an earlier run away."""
    output.mkdir(parents=True, exist_ok=True)
    for old in (*output.glob("*.png"), *output.glob("*.log")):
        old.unlink()


def _sheet(window: Window, output: Path) -> None:
    """All pictures on one, with their names."""
    small = window.folder / "small"
    small.mkdir()
    for picture in window.taken:
        (small / picture.name).write_bytes(picture.read_bytes())
    inside = chroot.FOLDER / "small"
    names = [inside / picture.name for picture in window.taken]
    tiles = ["-font", "DejaVu-Sans", "-label", "%t", "-tile", "4x", "-geometry", "480x381+6+6"]
    colours = ["-background", "#202020", "-fill", "white"]
    window.run("montage", *tiles, *colours, *names, chroot.FOLDER / "sheet.png")
    (output / "sheet.png").write_bytes((window.folder / "sheet.png").read_bytes())


if __name__ == "__main__":
    sys.exit(main())
