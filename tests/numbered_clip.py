# SPDX-License-Identifier: GPL-3.0-or-later
"""Clips whose frames carry their numbers, written by the backend for tests in Blender."""

import subprocess
from pathlib import Path

FPS = 16
ROOT = Path(__file__).parents[1]
SIZE = (96, 64)
LONG, SHORT = 961, 49
# Each frame carries its number in three fields of gray, one for each decimal digit.
SCRIPT = """
import shutil, sys
from pathlib import Path
import numpy as np
from backend.video import ClipWriter
target, count = Path(sys.argv[1]), int(sys.argv[2])
frames = np.zeros((count, 64, 96, 3), np.uint8)
for field, power in enumerate((100, 10, 1)):
    digits = np.arange(count) // power % 10
    frames[:, :, field * 32 : field * 32 + 32] = (15 + 25 * digits)[:, None, None, None]
with ClipWriter(target.parent / "preview", (96, 64), 16, {}) as writer:
    for chunk in np.split(frames, range(25, count, 24)):
        writer.write(chunk)
        if len(sys.argv) > 3:
            shutil.copy(writer.growing, target.with_name(f"{writer.frames_written}.mp4"))
    writer.finish(target)
"""


def write(backend_python: Path, target: Path, count: int, keep_each_state: bool = False) -> None:
    """Write a clip of so many frames; and copies of the growing clip, named by their frames, beside it."""
    command = [str(backend_python), "-c", SCRIPT, str(target), str(count), *["keep"] * keep_each_state]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
