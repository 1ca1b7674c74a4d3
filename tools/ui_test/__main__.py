# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole test: a chroot, a window, the steps, a table and a sheet of pictures."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .. import package
from . import chroot, scenario
from .chroot import UiTestError
from .window import Window

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "--inside"


def main() -> int:
    parser = argparse.ArgumentParser(prog="build.py ui-test")
    parser.add_argument(
        "--chroot", type=Path, default=ROOT / ".env" / "ui" / "sid", help="where Debian and Blender are"
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "demo_output" / "ui", help="folder for the pictures"
    )
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        if options.inside:
            return test(options.chroot.resolve(), options.output.resolve())
        chroot.require_root()
        return chroot.in_own_namespaces(
            [sys.executable, "-m", "tools.ui_test", INSIDE, *sys.argv[1:]], cwd=ROOT
        )
    except UiTestError as error:
        print(error, file=sys.stderr)
        return 1


def test(root: Path, output: Path) -> int:
    """Inside of the namespaces: every step, and 1 if one of them failed."""
    chroot.ensure(root)
    chroot.mount_system(root)
    for path in (ROOT / ".env", _base_python()):
        chroot.mount_read_only(root, path)
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("*.png"):
        old.unlink()
    archive = package.build_zip(ROOT, ROOT / "dist")
    window = Window(root, output)
    scenario.install(window, archive)
    results = []
    try:
        window.open()
        for number, (name, step) in enumerate(scenario.steps(archive, ROOT / ".env"), 1):
            started = time.monotonic()
            try:
                seen, ok = step(window), True
            except UiTestError as error:
                seen, ok = str(error), False
            picture = window.picture(f"{number:02d}_{name}")
            results.append((name, ok, seen, picture))
            print(
                f"{'ok  ' if ok else 'FAIL'}  {name:15} {time.monotonic() - started:4.0f} s  {seen}",
                flush=True,
            )
    finally:
        window.close()
    _sheet([picture for *_rest, picture in results], output / "sheet.png")
    print(f"Pictures in {output}")
    return 0 if results and all(ok for _name, ok, *_rest in results) else 1


def _base_python() -> Path:
    """The Python below the backend's environment, which has to be seen inside as well."""
    base = Path(sys.base_prefix).resolve()
    if base in (Path("/usr"), Path("/usr/local")):
        raise UiTestError(
            f"The backend's Python is the system's own ({base}), which cannot be shown to another system; run "
            "build.py with a Python that has a folder of its own, such as one of pyenv's."
        )
    return base


def _sheet(pictures: list[Path], target: Path) -> None:
    """All pictures on one, three in a row."""
    from PIL import Image

    width, height = 680, 450
    sheet = Image.new("RGB", (3 * width, -(-len(pictures) // 3) * height))
    for index, picture in enumerate(pictures):
        small = Image.open(picture).resize((width, height))
        sheet.paste(small, (index % 3 * width, index // 3 * height))
    sheet.save(target)


if __name__ == "__main__":
    sys.exit(main())
