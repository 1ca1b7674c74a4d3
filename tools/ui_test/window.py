# SPDX-License-Identifier: GPL-3.0-or-later
"""A Blender window on a screen of its own: Python in its main loop, mouse, keys, pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
from PIL import Image

from .chroot import UiTestError

DISPLAY, SCREEN = ":78", (1360, 1080)
PATIENCE_S = 120
_HERE = Path(__file__).resolve().parent
# As seen from inside.
_FOLDER = Path("/ui-test")


class Window:
    """Blender on an X server without a screen, inside the chroot.

    Attributes:
        pictures: folder for the screenshots.
    """

    def __init__(self, root: Path, pictures: Path) -> None:
        self.root, self.pictures = root, pictures
        self.folder = root / _FOLDER.relative_to("/")
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "home").mkdir(parents=True, exist_ok=True)
        shutil.copy(_HERE / "remote.py", self.folder)
        self._children: list[subprocess.Popen] = []

    def run(self, *command: str, timeout: float = 300) -> str:
        """A program inside; its output. Raises UiTestError if it fails."""
        done = subprocess.run(self._inside(command), capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise UiTestError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")
        return done.stdout

    def open(self) -> None:
        """Start the X server and Blender, without its splash screen; ready when its main loop answers."""
        hide = "import bpy; bpy.context.preferences.view.show_splash = False; bpy.ops.wm.save_userpref()"
        self.run("blender", "--background", "--python-expr", hide)
        size = f"{SCREEN[0]}x{SCREEN[1]}x24"
        self._start("Xvfb", DISPLAY, "-screen", "0", size, "+extension", "GLX")
        time.sleep(2)
        geometry = ["--window-geometry", "0", "0", *map(str, SCREEN)]
        self._start("blender", "--no-window-focus", *geometry, "--python", str(_FOLDER / "remote.py"))
        self.python("pass")

    def close(self) -> None:
        """End Blender as its user does, then whatever is left."""
        try:
            quit_soon = (
                "bpy.app.timers.register(lambda: bpy.ops.wm.quit_blender() and None, first_interval=0.3)"
            )
            self.python(quit_soon)
            self._children[-1].wait(30)
        except (UiTestError, IndexError, subprocess.TimeoutExpired):
            pass
        for child in reversed(self._children):
            child.kill()

    def python(self, code: str, patience_s: float = PATIENCE_S) -> str:
        """Run Python in Blender's main loop; what it prints. Raises UiTestError with its traceback."""
        answer, partial = self.folder / "answer.json", self.folder / "ask.part"
        answer.unlink(missing_ok=True)
        partial.write_text(code, "utf-8")
        os.replace(partial, self.folder / "ask.py")
        self._wait(answer.exists, patience_s, "Blender does not answer")
        said = json.loads(answer.read_text("utf-8"))
        if said["error"]:
            raise UiTestError(said["error"].strip().splitlines()[-1] + f"\n{said['error']}")
        return said["said"].strip()

    def wait_for(self, expression: str, patience_s: float = PATIENCE_S) -> None:
        """Until an expression in Blender is true."""
        self._wait(
            lambda: self.python(f"print(bool({expression}))") == "True",
            patience_s,
            f"Never came true: {expression}",
        )

    def redraw(self) -> None:
        self.python("for w in bpy.context.window_manager.windows:\n for a in w.screen.areas: a.tag_redraw()")
        time.sleep(0.8)

    def picture(self, name: str) -> Path:
        """A screenshot as NAME.png in the folder of pictures."""
        self.redraw()
        target = self.pictures / f"{name}.png"
        Image.fromarray(self.pixels()).save(target)
        return target

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 of the whole screen."""
        self.run("import", "-silent", "-window", "root", str(_FOLDER / "screen.png"))
        return np.asarray(Image.open(self.folder / "screen.png").convert("RGB"))

    def button(self, operator: str, occurrence: int = 0) -> tuple[int, int]:
        """Where an operator's button is on the screen: what changes when the operator refuses, and back.

        Args:
            operator: its class, such as SANAWM_OT_generate.
            occurrence: which of several buttons, from the top.

        Raises:
            UiTestError: no such button is in sight.
        """
        refuse = f"C = bpy.types.{operator}; kept = C.__dict__.get('poll')\nC.poll = classmethod(lambda cls, c: False)"
        put_back = "C.poll = kept if kept is not None else None\nif kept is None: del C.poll"
        self.redraw()
        before = self.pixels().astype(int)
        self.python(refuse)
        self.redraw()
        greyed = self.pixels().astype(int)
        self.python(put_back)
        self.redraw()
        after = self.pixels().astype(int)
        changed = (np.abs(greyed - before).max(2) > 12) & (np.abs(after - before).max(2) < 6)
        boxes = _boxes(changed)
        if len(boxes) <= occurrence:
            self.picture(f"missing_{operator}")
            raise UiTestError(f"There is no button for {operator} on the screen.")
        left, top, right, bottom = boxes[occurrence]
        return (left + right) // 2, (top + bottom) // 2

    def click(self, x: int, y: int) -> None:
        """As a hand does it: there, a twitch, down and up."""
        self.xdotool("mousemove", x, y)
        time.sleep(0.3)
        self.xdotool("mousemove_relative", 1, 1)
        time.sleep(0.3)
        self.xdotool("click", 1)
        time.sleep(0.5)

    def press(self, operator: str, occurrence: int = 0) -> None:
        """Click an operator's button."""
        self.click(*self.button(operator, occurrence))
        self.xdotool("mousemove", SCREEN[0] // 3, SCREEN[1] // 3)

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        self.xdotool("mousemove", *start)
        time.sleep(0.3)
        self.xdotool("mousemove_relative", 1, 0)
        self.xdotool("mousedown", 1)
        for step in range(1, 9):
            share = step / 8
            x, y = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
            self.xdotool("mousemove", x, y)
            time.sleep(0.15)
        self.xdotool("mouseup", 1)
        time.sleep(0.5)

    def xdotool(self, *arguments: object) -> None:
        self.run("xdotool", *map(str, arguments))

    def _wait(self, condition, patience_s: float, what: str) -> None:
        end = time.monotonic() + patience_s
        while not condition():
            if self._children and self._children[-1].poll() is not None:
                raise UiTestError(f"Blender has ended; its log is {self.folder / 'blender.log'}.")
            if time.monotonic() > end:
                raise UiTestError(f"{what} (waited {patience_s:.0f} s).")
            time.sleep(0.15)

    def _start(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}.log", "wb") as log:
            self._children.append(
                subprocess.Popen(self._inside(command), stdout=log, stderr=subprocess.STDOUT)
            )

    def _inside(self, command: tuple[str, ...]) -> list[str]:
        variables = {
            "HOME": str(_FOLDER / "home"), "USER": "root", "LANG": "C.UTF-8", "DISPLAY": DISPLAY,
            "LIBGL_ALWAYS_SOFTWARE": "1", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": "/tmp",
        }  # fmt: skip
        pairs = [f"{name}={value}" for name, value in variables.items()]
        return ["chroot", str(self.root), "env", "-i", *pairs, *command]


def _boxes(changed: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom of every group of changed pixels, from the top; specks left out.

    A label's letters are apart from each other; whatever lies within a button's height belongs together.
    """
    reach = 14
    rows = np.flatnonzero(changed.any(1))
    boxes = []
    for band in _groups(rows, 3):
        columns = np.flatnonzero(changed[band[0] : band[1] + 1].any(0))
        for left, right in _groups(columns, reach):
            if right - left >= 8 and band[1] - band[0] >= 6:
                boxes.append((left, band[0], right, band[1]))
    return boxes


def _groups(places: np.ndarray, reach: int) -> list[tuple[int, int]]:
    """First and last of every run of places whose neighbours are at most `reach` apart."""
    if not len(places):
        return []
    cuts = np.flatnonzero(np.diff(places) > reach)
    firsts, lasts = [places[0], *places[cuts + 1]], [*places[cuts], places[-1]]
    return [(int(first), int(last)) for first, last in zip(firsts, lasts, strict=True)]
