# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs inside the Blender that is tested: executes what is put beside it, in Blender's main loop.

Started with `--python`. A file `ask.py` is run and removed; what it prints, and an error if there is one, comes
back as `answer.json`.
"""

import contextlib
import io
import json
import os
import traceback
from pathlib import Path

import bpy

FOLDER = Path(__file__).resolve().parent
NAMES: dict[str, object] = {"bpy": bpy}


def answer() -> float:
    ask = FOLDER / "ask.py"
    if ask.exists():
        code, said, error = ask.read_text("utf-8"), io.StringIO(), ""
        ask.unlink()
        with contextlib.redirect_stdout(said):
            try:
                exec(compile(code, "ask.py", "exec"), NAMES)
            except BaseException:
                error = traceback.format_exc()
        partial = FOLDER / "answer.part"
        partial.write_text(json.dumps({"said": said.getvalue(), "error": error}), "utf-8")
        os.replace(partial, FOLDER / "answer.json")
    return 0.1


bpy.app.timers.register(answer, persistent=True)
