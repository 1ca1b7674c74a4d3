# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds an operator's button on the screen and presses it with the mouse.

Blender does not say where its buttons are. But what looks like a button can be seen, and what it runs Blender says
of the one under the mouse. What is not in sight is scrolled to.
"""

from __future__ import annotations

import cv2
import numpy as np

from .chroot import UiTestError
from .window import SCREEN, Window

# Smaller and larger ones are icons, sliders' parts, or backgrounds of the same colour.
_SMALLEST_PX, _TALLEST_PX = 12, 60
_LIKE = 3
_SCREENFULS = 6
_HEADER_PX = (16, 32)  # between these
_PANEL_EDGE_PX = 12  # in from the sidebar, where a panel shows nothing but its colour


class Buttons:
    """Of one editor's sidebar, or of another region of it."""

    def __init__(self, window: Window, kind: str = "VIEW_3D", part: str = "UI") -> None:
        self.window, self.kind, self.part = window, kind, part

    def press(self, command: str) -> None:
        """Clicks a button.

        Args:
            command: what it runs, as Blender writes it: `sanawm.generate()`.

        Raises:
            UiTestError: there is no such button in the sidebar, or it does not work now.
        """
        x, y = self.find(command)
        self.window.click(x, y)
        self.window.mouse_away()

    def find(self, command: str) -> tuple[int, int]:
        """The point of the screen where a button is; the mouse is over it."""
        left, right, top, bottom = self._region()
        seen = []
        self.scroll("up")
        for _ in range(_SCREENFULS):
            self.window.mouse_away()
            self.window.redraw()
            pixels = self.window.pixels()[top:bottom, left:right]
            for x, y in self._candidates(pixels):
                place = left + x, top + y
                self.window.mouse_to(*place)
                runs = self.window.ask(f"under_mouse({self.kind!r}, {self.part!r})")
                if runs == command:
                    return place
                seen.append(runs)
            before = pixels
            self.scroll("down", 6)
            self.window.mouse_away()
            self.window.redraw()
            if np.array_equal(before, self.window.pixels()[top:bottom, left:right]):
                break
        others = ", ".join(dict.fromkeys(filter(None, seen))) or "none"
        raise UiTestError(f"There is no button for {command} in the sidebar; those there are: {others}.")

    def _region(self) -> tuple[int, int, int, int]:
        """Left, right, top and bottom on the screen."""
        x, y, width, height = self.window.ask(
            f"(lambda w, r: [w.x + r.x, w.y + r.y, r.width, r.height])"
            f"(window_of({self.kind!r}), region({self.kind!r}, {self.part!r}))"
        )
        bottom = SCREEN[1] - y  # Blender counts from below
        return x, x + width, bottom - height, bottom

    def open_panels(self) -> None:
        """Opens every closed panel that is in sight, by its header."""
        left, _right, top, bottom = self._region()
        for _ in range(_SCREENFULS):
            closed = _closed_panels(self.window.pixels()[top:bottom, left + _PANEL_EDGE_PX])
            if not closed:
                return
            self.window.click(left + 4 * _PANEL_EDGE_PX, top + closed[0])
            self.window.mouse_away()
            self.window.redraw()

    def scroll(self, direction: str, clicks: int = 40) -> None:
        """Turns the wheel over the sidebar, as far as it goes by default."""
        left, right, top, bottom = self._region()
        self.window.mouse_to((left + right) // 2, (top + bottom) // 2)
        button = {"up": 4, "down": 5}[direction]
        self.window.run("xdotool", "click", "--repeat", clicks, "--delay", 20, button, "sleep", 0.3)

    def _candidates(self, pixels: np.ndarray) -> list[tuple[int, int]]:
        """Where something has the colour of a button and its size, from the top."""
        colours = self.window.ask(
            "(lambda w: [[round(255 * c) for c in colour[:3]] for colour in (w.inner, w.inner_sel)])"
            "(bpy.context.preferences.themes[0].user_interface.wcol_tool)"
        )
        found = []
        for colour in colours:
            alike = (np.abs(pixels.astype(int) - colour).max(2) <= _LIKE).astype(np.uint8)
            _count, _labels, boxes, _centres = cv2.connectedComponentsWithStats(alike, connectivity=4)
            for left, top, width, height, _area in boxes[1:]:
                if width >= _SMALLEST_PX and _SMALLEST_PX <= height <= _TALLEST_PX:
                    found.append((int(left + width // 2), int(top + height // 2)))
        return sorted(found, key=lambda place: (place[1], place[0]))


def _closed_panels(edge: np.ndarray) -> list[int]:
    """The middle of every panel of which only the header shows.

    Args:
        edge: (H, 3) pixels down the sidebar, where a panel shows nothing but itself.
    """
    colours, counts = np.unique(edge, axis=0, return_counts=True)
    is_panel = (edge == colours[counts.argmax()]).all(1).astype(int)
    steps = np.diff(is_panel, prepend=0, append=0)
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    low, high = _HEADER_PX
    return [
        int(start + end) // 2 for start, end in zip(starts, ends, strict=True) if low < end - start < high
    ]
