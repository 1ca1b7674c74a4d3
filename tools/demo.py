# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: from the extension zip to the clip in the sequencer, in separate processes as at a user's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import package
from .environments import ENVIRONMENTS, ProgressLine, clean_variables


def run(root: Path, python: Path, blender: Path, blend: Path | None, camera: str | None, preset: str) -> int:
    """Makes a clip and leaves it with its contact sheet, job folder and .blend in `root`/demo_output.

    An earlier result there goes when Blender has found the file, the camera and the preset usable, not before.
    """
    started = time.monotonic()
    if blend and not blend.is_file():
        return refuse(f"There is no file {blend}.")
    if camera and not blend:
        return refuse("--camera names a camera of your own file: add --blend FILE.")
    output = root / "demo_output"
    if blend and blend.resolve().is_relative_to(output.resolve()):
        return refuse(f"{output} is replaced by the demo: copy {blend.name} to another folder first.")
    print("Building the extension and making a clip with it, all on this machine.")
    output.mkdir(exist_ok=True)
    archive = package.build_zip(root, root / "dist")
    script = Path(__file__).with_name("demo_in_blender.py")
    command = [blender, "-I", script, "--archive", archive, "--backend", ENVIRONMENTS]
    command += ["--output", output, "--preset", preset]
    command += ["--blend", blend.resolve()] if blend else []
    command += ["--camera", camera] if camera else []
    result = follow(command, root, output)
    if result is None:
        return 1
    return finish(result, python, output, time.monotonic() - started)


def follow(command: list, root: Path, output: Path) -> dict | None:
    """Runs Blender's part with its progress on one line; its result, or None after a message."""
    line, result, last = ProgressLine(), None, "Blender ended without a word"
    with (
        tempfile.TemporaryDirectory(prefix="sana_wm_demo_") as resources,
        open(output / "blender.log", "w", encoding="utf-8") as log,
    ):
        variables = clean_variables(BLENDER_USER_RESOURCES=resources)
        child = subprocess.Popen(
            [*map(str, command)], cwd=root, env=variables, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            for text in child.stdout:
                if not text.startswith("{"):
                    log.write(text)
                    continue
                message = json.loads(text)
                if "job" in message:
                    result = message
                elif message["stage"] == "failed":
                    last = message["message"]
                else:
                    line(**message)
            child.wait()
        except BaseException:
            child.terminate()
            raise
        finally:
            line.end()
    if result is None:
        refuse(f"{last}\n(Blender's own messages: {output / 'blender.log'})")
    return result


def finish(result: dict, python: Path, output: Path, seconds: float) -> int:
    job = Path(result["job"])
    shutil.copyfile(job / "clip.mp4", output / "clip.mp4")
    listed = output / "stills" / "stills.json"
    listed.write_text(json.dumps(result["stills"]), "utf-8")
    sheet = output / "contact_sheet.png"
    tool = Path(__file__).with_name("contact_sheet.py")
    subprocess.run([str(python), str(tool), str(listed), str(sheet)], check=True, env=clean_variables())
    listed.unlink()
    clip = json.loads((job / "clip.json").read_text("utf-8"))
    print(f"\nDone in {seconds:.0f} s: {clip['frame_count']} frames in {output}")
    for name, path in (
        ("clip", output / "clip.mp4"),
        ("contact sheet", sheet),
        ("job folder", job),
        ("Blender file", Path(result["blend"])),
    ):
        print(f"  {name:<14} {path}")
    return 0


def refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1
