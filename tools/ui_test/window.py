# SPDX-License-Identifier: GPL-3.0-or-later
"""A Blender window on a screen of its own: Python in its main loop, mouse, keys, pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from .chroot import FOLDER, UiTestError

SCREEN = (1360, 1080)
PATIENCE_S = 120


class Window:
    """Blender on an X server without a screen, inside the chroot.

    Attributes:
        folder: the test's folder of the chroot, as seen from outside.
        pictures: folder for the screenshots.
        step: begins the name of every picture.
        taken: the pictures so far, in their order.
    """

    def __init__(self, root: Path, pictures: Path) -> None:
        self.root, self.pictures = root, pictures
        self.folder = root / FOLDER.relative_to("/")
        self.step, self.taken = "", []
        (self.folder / "home").mkdir()
        shutil.copy(Path(__file__).with_name("remote.py"), self.folder)
        self._blender: subprocess.Popen | None = None
        self._display = self._start_screen()

    def run(self, *command: object, timeout_s: float = 300) -> str:
        """A program inside; its output. Raises UiTestError if it fails."""
        try:
            done = subprocess.run(self._inside(command), capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise UiTestError(f"{command[0]} did not end within {timeout_s:.0f} s.") from None
        if done.returncode:
            raise UiTestError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}")
        return done.stdout

    def open(self, *files: str) -> None:
        """Starts Blender; ready when its main loop answers."""
        command = ["blender", "--no-window-focus", "--window-geometry", 0, 0, *SCREEN, *files]
        command += ["--python", FOLDER / "remote.py"]
        with open(self.pictures / "blender.log", "ab") as log:
            self._blender = subprocess.Popen(self._inside(command), stdout=log, stderr=subprocess.STDOUT)
        self.python("pass")

    def wait_for_end(self, patience_s: float = 60) -> int:
        """Blender's exit status, when it has ended."""
        try:
            return self._blender.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise UiTestError("Blender was told to quit and goes on.") from None

    def python(self, code: str, patience_s: float = PATIENCE_S) -> str:
        """Runs Python in Blender's main loop, with the names of remote.py; what it prints.

        Raises:
            UiTestError: with its traceback; or Blender has ended or does not answer.
        """
        answer, partial = self.folder / "answer.json", self.folder / "ask.part"
        answer.unlink(missing_ok=True)
        partial.write_text(code, "utf-8")
        os.replace(partial, self.folder / "ask.py")
        self._wait(answer.exists, patience_s, "Blender does not answer")
        said = json.loads(answer.read_text("utf-8"))
        if said["error"]:
            last = said["error"].strip().splitlines()[-1]
            raise UiTestError(f"{last}\n{said['error']}")
        return said["said"].strip()

    def ask(self, expression: str) -> object:
        """The value of an expression in Blender, as JSON can hold it."""
        return json.loads(self.python(f"print(json.dumps({expression}))"))

    def wait_for(self, expression: str, patience_s: float = PATIENCE_S) -> None:
        """Until an expression in Blender is true."""
        self._wait(
            lambda: self.ask(f"bool({expression})"), patience_s, f"This did not become true: {expression}"
        )

    def redraw(self) -> None:
        """What Python has changed shows only after a redraw."""
        self.python("[a.tag_redraw() for w in bpy.context.window_manager.windows for a in w.screen.areas]")
        time.sleep(0.8)

    def picture(self, name: str = "") -> Path:
        """A screenshot, STEP_NAME.png in the folder of pictures."""
        if self._runs():
            self.redraw()
        path = self.pictures / f"{'_'.join(filter(None, (self.step, name)))}.png"
        Image.fromarray(self.pixels()).save(path)
        self.taken.append(path)
        return path

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 of the whole screen."""
        # Blender's own screenshot is black on this screen.
        self.run("import", "-silent", "-window", "root", FOLDER / "screen.png")
        return np.asarray(Image.open(self.folder / "screen.png").convert("RGB"))

    def mouse_to(self, x: int, y: int) -> None:
        """As a hand does it: there, and a twitch, without which Blender may not notice."""
        self.run("xdotool", "mousemove", x, y, "sleep", 0.15, "mousemove_relative", 1, 1, "sleep", 0.15)

    def mouse_away(self) -> None:
        """Off the panels, so that no tooltip and no highlight is in the picture."""
        self.mouse_to(SCREEN[0] * 3 // 4, SCREEN[1] * 2 // 3)

    def click(self, x: int, y: int) -> None:
        self.mouse_to(x, y)
        self.run("xdotool", "click", 1, "sleep", 0.5)

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """No faster than Blender can follow: it takes a button's press to be where the mouse is by then."""
        self.mouse_to(*start)
        self._let_follow()
        self.run("xdotool", "mousedown", 1)
        for share in np.linspace(0, 1, 7):
            self._let_follow()
            x, y = (round(a + (b - a) * share) for a, b in zip(start, end, strict=True))
            self.run("xdotool", "mousemove", x, y)
        self._let_follow()
        self.run("xdotool", "mouseup", 1)
        self._let_follow()

    def _let_follow(self) -> None:
        """Until what happened so far has reached Blender."""
        time.sleep(0.1)
        self.python("pass")
        self.python("pass")

    def key(self, keys: str, action: str = "key") -> None:
        """Keys as xdotool names them; action is key, keydown or keyup."""
        self.run("xdotool", action, keys, "sleep", 0.3)

    def _wait(self, condition: Callable[[], bool], patience_s: float, what: str) -> None:
        end = time.monotonic() + patience_s
        while not condition():
            if not self._runs():
                raise UiTestError("Blender has ended; blender.log beside the pictures may say why.")
            if time.monotonic() > end:
                raise UiTestError(f"{what} (waited {patience_s:.0f} s).")
            time.sleep(0.05)

    def _runs(self) -> bool:
        return self._blender is not None and self._blender.poll() is None

    def _start_screen(self) -> str:
        """The name of a display that nobody has."""
        reading, writing = os.pipe()
        size = f"{SCREEN[0]}x{SCREEN[1]}x24"
        command = ["chroot", str(self.root), "Xvfb", "-displayfd", str(writing), "-screen", "0", size]
        with open(self.pictures / "screen.log", "wb") as log:
            subprocess.Popen(
                [*command, "+extension", "GLX"], stdout=log, stderr=subprocess.STDOUT, pass_fds=[writing]
            )
        os.close(writing)
        with open(reading, encoding="ascii") as number:
            said = number.readline().strip()
        if not said:
            raise UiTestError("The X server did not start; screen.log beside the pictures may say why.")
        return f":{said}"

    def _inside(self, command: tuple | list) -> list[str]:
        variables = {
            "HOME": FOLDER / "home", "USER": "root", "LANG": "C.UTF-8", "DISPLAY": self._display,
            "LIBGL_ALWAYS_SOFTWARE": "1", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }  # fmt: skip
        pairs = [f"{name}={value}" for name, value in variables.items()]
        return ["chroot", str(self.root), "env", "-i", *pairs, *map(str, command)]
