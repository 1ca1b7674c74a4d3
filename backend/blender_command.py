# SPDX-License-Identifier: GPL-3.0-or-later
"""A shot list and a .blend file to jobs, through a Blender without a window: only Blender can read its cameras."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .protocol import ProtocolError

LIST_ENDINGS = (".csv", ".otio", ".edl")


def submit_list(shot_list: Path, blend: Path, blender: str, jobs_root: Path | None) -> int:
    """Have Blender submit the shots.

    Args:
        blender: the program, by name or path; its SANA-WM extension does the work.
        jobs_root: None for the folder beside the .blend.

    Returns:
        Blender's exit code: 0, 1 if rows or shots were left out, 2 if nothing could be done.

    Raises:
        ProtocolError: a file, the program or its extension is missing.
    """
    if not shot_list.is_file():
        raise ProtocolError(f"There is no shot list {shot_list}.")
    words = ["submit", "--from", os.path.abspath(shot_list)]
    if jobs_root is not None:
        words += ["--jobs", os.path.abspath(jobs_root)]
    return run_in_blender(blender, blend, words)


def run_in_blender(blender: str, blend: Path, words: list[str]) -> int:
    """Run a command of the extension on a .blend file; Blender's own output goes through. See `submit_list`."""
    program = program_for(blender, blend)
    # Links stay as they are: a job is found again by the path under which its .blend is opened.
    command = [program, "--background", os.path.abspath(blend), "--command", "sana_wm", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        is_unknown = False
        for line in process.stderr:
            sys.stderr.write(line)
            is_unknown |= line.startswith("Unrecognized command")
    if is_unknown:
        raise ProtocolError(
            f"{program} does not have the extension SANA-WM Shots; install and enable it there."
        )
    return process.returncode


def program_for(blender: str, blend: Path) -> str:
    """The path of the program; ProtocolError if it or the .blend file is missing."""
    if not blend.is_file():
        raise ProtocolError(f"There is no .blend file {blend}.")
    program = shutil.which(blender)
    if program is None:
        raise ProtocolError(f"There is no program {blender}; name Blender's with --blender.")
    return program
