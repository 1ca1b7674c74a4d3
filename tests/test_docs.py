# SPDX-License-Identifier: GPL-3.0-or-later
"""The architecture page says what the code does."""

import re
from pathlib import Path

from backend.protocol.state import ALLOWED_MOVES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def test_state_table_is_the_one_in_the_code():
    table = PAGE.split("| from | to |")[1].split("\n\n")[0]
    written = {
        old.strip(): set(filter(None, (new.strip() for new in moves.split(","))))
        for old, moves in re.findall(r"^\| ([a-z ]+) \|(.*)\|$", table, re.MULTILINE)
    }
    assert written == {str(old or "not queued"): set(map(str, new)) for old, new in ALLOWED_MOVES.items()}


def test_every_room_that_is_named_exists():
    rooms = set(re.findall(r"`((?:backend|blender_addon|kernels|presets|tests|tools|docs)/[\w./]*)`", PAGE))
    assert rooms and [room for room in sorted(rooms) if not (ROOT / room).exists()] == []
