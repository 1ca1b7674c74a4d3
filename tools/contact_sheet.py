# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's contact sheet: the blockout above, the clip below, at every second.

Usage, in the backend's Python: `contact_sheet.py STILLS.json SHEET.png`, where STILLS.json lists
{"second", "blockout", "clip"} with the paths of two pictures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 3
THUMB_WIDTH = 420
GAP, LABEL_HEIGHT = 8, 26
PAPER, INK = (24, 24, 26), (225, 225, 225)


def sheet(stills: list[dict]) -> Image.Image:
    first = Image.open(stills[0]["blockout"])
    width, height = THUMB_WIDTH, round(THUMB_WIDTH * first.height / first.width)
    rows = -(-len(stills) // COLUMNS)
    band = LABEL_HEIGHT + 2 * height + GAP
    columns = min(COLUMNS, len(stills))
    size = (GAP + columns * (width + GAP), rows * band + GAP)
    page = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for index, still in enumerate(stills):
        x = GAP + (index % COLUMNS) * (width + GAP)
        y = (index // COLUMNS) * band + GAP
        label = f"{still['second']} s   blockout above, clip below" if index == 0 else f"{still['second']} s"
        draw.text((x, y), label, fill=INK, font=font)
        for row, name in enumerate(("blockout", "clip")):
            picture = Image.open(still[name]).convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            page.paste(picture, (x, y + LABEL_HEIGHT - GAP + row * (height + 2)))
    return page


if __name__ == "__main__":
    listed, target = map(Path, sys.argv[1:])
    sheet(json.loads(listed.read_text("utf-8"))).save(target)
