# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the demo that runs inside Blender, with nothing but the installed extension.

Does what a user does: install the zip, choose the backend's folder, open or make a scene, save it, press
Generate, wait. Then it renders the blockout and the sequencer at every second. Prints JSON lines, the last
with what came out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType

import bpy

MODULE = "bl_ext.user_default.sana_wm"
STILL_WIDTH = 640
# A stuck worker must end the demo one day; a long shot on a slow machine must not.
PATIENCE_S = 3600


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


def say(stage: str, message: str, fraction: float) -> None:
    print(json.dumps({"stage": stage, "message": message, "fraction": fraction}), flush=True)


def addon(name: str) -> ModuleType:
    """A module of the installed add-on, such as "camera"."""
    return importlib.import_module(f"{MODULE}.blender_addon.{name}")


def install(archive: Path, backend: Path) -> None:
    say("install", f"Installing {archive.name} into Blender {bpy.app.version_string}", 0.02)
    bpy.ops.extensions.package_install_files(
        filepath=str(archive), repo="user_default", enable_on_install=True, overwrite=True
    )
    if MODULE not in bpy.context.preferences.addons:
        raise DemoError("Blender did not enable the extension.")
    bpy.context.preferences.addons[MODULE].preferences.backend_folder = str(backend)
    # The demo's worker has one job only and need not wait for another.
    addon("backend_process").IDLE_EXIT_S = 1


def open_scene(blend: Path | None, camera: str | None, preset: str, output: Path) -> Path:
    """The demo scene or the user's own file, ready to generate; saved in `output`, the original untouched.

    Empties `output` once nothing stands against the shot.

    Raises:
        DemoError: no such camera or preset, or a shot that the model cannot film; `output` is as it was.
    """
    if blend:
        say("scene", f"Opening {blend.name}", 0.05)
        bpy.ops.wm.open_mainfile(filepath=str(blend), load_ui=False)
    else:
        say("scene", "Making the demo scene", 0.05)
        bpy.ops.sanawm.add_demo_scene()
    scene = bpy.context.scene
    if camera:
        found = bpy.data.objects.get(camera)
        if found is None or found.type != "CAMERA":
            cameras = ", ".join(sorted(o.name for o in scene.objects if o.type == "CAMERA")) or "none"
            raise DemoError(f"{blend.name} has no camera named {camera}; its cameras: {cameras}.")
        scene.sana_wm.camera = found
    known = [name for name, preset in addon("properties").presets().items() if preset.model == "embedded"]
    if preset not in known:
        raise DemoError(f"There is no preset {preset} that runs here; choose one of {', '.join(known)}.")
    scene.sana_wm.preset = preset
    shots = addon("shots")
    shots.check(bpy.context)
    wrong = [finding.name for finding in shots.current_findings(bpy.context) if finding.is_error]
    if wrong:
        raise DemoError(" ".join(wrong))
    empty(output)
    saved = output / (blend.name if blend else "demo.blend")
    bpy.ops.wm.save_as_mainfile(filepath=str(saved), relative_remap=True)
    return saved


def empty(output: Path) -> None:
    """Delete an earlier result; the log is this run's already."""
    for path in output.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != "blender.log":
            path.unlink()


def generate(scene: bpy.types.Scene) -> Path:
    """Presses Generate and stands in for Blender's timer until the clip is placed; returns the job folder."""
    say("generate", "Exporting the camera and the blockout", 0.08)
    session = addon("session")
    bpy.ops.sanawm.generate()
    job, deadline = session.supervisor.latest(scene.session_uid), time.monotonic() + PATIENCE_S
    while not job.is_settled:
        time.sleep(min(0.25, session.tick()))
        if job.record.state in ("failed", "cancelled"):
            raise DemoError(f"The job ended as {job.record.state}: {job.record.reason}")
        if session.supervisor.trouble:
            raise DemoError(session.supervisor.trouble)
        if time.monotonic() > deadline:
            raise DemoError(f"The job is not done after {PATIENCE_S // 60} minutes: {job.folder.path}")
        left = "" if job.seconds_left is None else f", {job.seconds_left:.0f} s left"
        message = f"The worker: {job.stage or job.record.state}{left}"
        say("generate", message, 0.1 + 0.7 * min(1.0, job.fraction(time.time())))
    if job.trouble:
        raise DemoError(job.trouble)
    return job.folder.path


def render_stills(scene: bpy.types.Scene, folder: Path) -> list[dict]:
    """The blockout and the sequencer at every second of the shot; leaves the scene changed, unsaved."""
    start, end = scene.sana_wm.range_of(scene)
    fps = addon("timeline").scene_fps(scene)
    seconds = range(math.floor((end - start) / fps + 1e-6) + 1)
    if scene.sana_wm.camera:
        scene.camera = scene.sana_wm.camera
    for marker in scene.timeline_markers:
        marker.camera = None
    render, view = scene.render, scene.view_settings
    render.engine = "BLENDER_WORKBENCH"
    render.resolution_percentage = max(1, round(100 * STILL_WIDTH / render.resolution_x))
    for owner, name, value in addon("compat").still_image_settings(render.image_settings):
        setattr(owner, name, value)
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGB"
    look = {name: getattr(view, name) for name in ("view_transform", "look", "exposure", "gamma")}
    plain = {"view_transform": "Standard", "look": "None", "exposure": 0.0, "gamma": 1.0}
    stills = []
    for second in seconds:
        say("stills", f"Rendering the sequencer at {second} s", 0.82 + 0.15 * second / len(seconds))
        frame = start + second * fps
        scene.frame_set(math.floor(frame), subframe=frame % 1)
        still = {"second": second}
        # The clip has the scene's look from its first frame already.
        for name, use_sequencer, settings in (("blockout", False, look), ("clip", True, plain)):
            for setting, value in settings.items():
                setattr(view, setting, value)
            render.use_sequencer = use_sequencer
            render.filepath = str(folder / f"{name}_{second:03d}.png")
            bpy.ops.render.render(write_still=True)
            still[name] = render.filepath
        stills.append(still)
    return stills


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--archive", "--backend", "--output", "--blend"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--camera")
    parser.add_argument("--preset")
    options = parser.parse_args()
    install(options.archive, options.backend)
    saved = open_scene(options.blend, options.camera, options.preset, options.output)
    scene = bpy.context.scene
    job = generate(scene)
    bpy.ops.wm.save_mainfile()
    stills_folder = options.output / "stills"
    stills_folder.mkdir()
    stills = render_stills(scene, stills_folder)
    print(json.dumps({"blend": str(saved), "job": str(job), "stills": stills}), flush=True)


if __name__ == "__main__":
    try:
        main()
        status = 0
    except (DemoError, RuntimeError) as error:
        # Operators report what is wrong as RuntimeError("Error: ...").
        say("failed", str(error).removeprefix("Error: ").strip(), 1.0)
        status = 1
    sys.stdout.flush()
    # Blender's own way out of a Python module can hang with an extension registered.
    os._exit(status)
