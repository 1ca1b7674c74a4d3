# SPDX-License-Identifier: GPL-3.0-or-later
"""`blender -b FILE.blend --command sana_wm ...`: the shot list without a window."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import bpy
from bpy.types import Scene

from ..backend.protocol import FPS, JobState, ProtocolError, limits
from . import batch, session, shot_sources, shots, verdicts
from .properties import SANAWM_PG_shot
from .shot_rows import listed, row_of

NAME = "sana_wm"
EXIT_CODES = "exit codes: 0 everything went well, 1 a shot did not, 2 wrong arguments or an unusable file"

_command: object | None = None


class _Failed(Exception):
    """A sentence for the user."""


def main(argv: list[str]) -> int:
    """Run one command on the open file and return the exit code; each command returns how many shots went wrong."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return 2 if end.code else 0
    try:
        session.supervisor.look_around()
        scene = _scene(arguments.scene)
        notes = _read(scene, arguments.source) if arguments.source else 0
        wrong = arguments.run(scene, arguments)
        return 1 if notes + wrong else 0
    except (_Failed, ProtocolError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"blender -b FILE.blend --command {NAME}", description="The shots of a file.", epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(required=True, metavar="list | check | submit | generate")

    def command(name, run, summary):
        added = commands.add_parser(name, help=summary, description=summary, epilog=EXIT_CODES)
        added.set_defaults(run=run)
        added.add_argument("--scene", help="name of the scene; default: the file's active one")
        added.add_argument(
            "--from",
            dest="source",
            type=Path,
            metavar="FILE",
            help="read shots from a .csv, .otio or .edl first",
        )
        return added

    added = command("list", _list, "show the shots with status, take and match")
    added.add_argument("--write", type=Path, metavar="FILE", help="write them as .csv, .otio or .edl")
    added = command("check", _check, "say what the model cannot film, or does not like")
    _add_choice(added)
    added = command(
        "submit", _submit, "write and queue the jobs; a worker makes them later, here or elsewhere"
    )
    _add_choice(added)
    added.add_argument(
        "--jobs", type=Path, metavar="DIR", help="folder for the jobs; default: beside the .blend"
    )
    added = command("generate", _generate, "make the clips now and place them in the sequencer")
    _add_choice(added)
    added.add_argument("--save", action="store_true", help="save the .blend with the clips in it")
    return parser


def _add_choice(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--shots", metavar="CODES", help="only these, separated by commas; default: all")
    choice.add_argument(
        "--stale", action="store_true", help="those without a clip or changed since theirs was made"
    )
    choice.add_argument("--failed", action="store_true", help="those whose last job failed or was cancelled")
    parser.add_argument("--takes", type=int, default=0, help="clips per shot; default: as the list says")


def _scene(name: str | None) -> Scene:
    """The scene by name, made the window's: cameras are followed in the window's scene."""
    if not bpy.data.filepath:
        raise _Failed("Name a .blend file: blender -b FILE.blend --command sana_wm ...")
    scene = bpy.data.scenes.get(name) if name else bpy.context.scene
    if scene is None:
        names = ", ".join(scene.name for scene in bpy.data.scenes)
        raise _Failed(f"There is no scene {name} in this file; there are {names}.")
    if bpy.context.window is not None:
        bpy.context.window.scene = scene
    return scene


def _read(scene: Scene, path: Path) -> int:
    """Rows of a file into the list, selected; the number of those that are left out or incomplete, which are named."""
    update = shot_sources.from_file(scene, path)
    for note in update.notes:
        print(note, file=sys.stderr)
    wanted = {*update.added, *update.updated}
    for shot in scene.sana_wm_shots:
        shot.is_selected = shot.code in wanted
    return len(update.notes)


def _chosen(scene: Scene, arguments: argparse.Namespace) -> list[SANAWM_PG_shot]:
    listed_shots = list(scene.sana_wm_shots) or [scene.sana_wm]
    if arguments.shots:
        codes = [code.strip() for code in arguments.shots.split(",")]
        found = {code: listed(scene, code) for code in codes}
        missing = [code for code, shot in found.items() if shot is None]
        if missing:
            there = ", ".join(shot.code for shot in listed_shots)
            raise _Failed(f"There is no shot {', '.join(missing)} in the list; there are {there}.")
        return list(found.values())
    if arguments.stale:
        stale, unknown = batch.stale(bpy.context)
        for code, reason in unknown:
            print(f"{code}: {reason}", file=sys.stderr)
        return stale
    if arguments.failed:
        return batch.failed(scene)
    return [shot for shot in listed_shots if shot.is_selected] if arguments.source else listed_shots


def _list(scene: Scene, arguments: argparse.Namespace) -> int:
    for settings in list(scene.sana_wm_shots) or [scene.sana_wm]:
        row = row_of(settings)
        take = f"v{row.take:03d}" if row.take else "-"
        frames = f"{row.frame_start}-{row.frame_end}"
        print(f"{row.code:16} {frames:>11}  {row.status or '-':10} {take:5} {row.match}".rstrip())
    if arguments.write:
        print(f"{shot_sources.to_file(scene, arguments.write)} shots written to {arguments.write}")
    return 0


def _check(scene: Scene, arguments: argparse.Namespace) -> int:
    wrong = 0
    for settings in _chosen(scene, arguments):
        try:
            findings = shots.findings(bpy.context, settings)
        except ProtocolError as error:
            findings = [limits.Finding(True, str(error))]
        wrong += any(finding.is_error for finding in findings)
        for finding in findings:
            print(f"{settings.code}: {'error' if finding.is_error else 'note'}: {finding.message}")
        if not findings:
            print(f"{settings.code}: fine")
    return wrong


def _submit(scene: Scene, arguments: argparse.Namespace) -> int:
    jobs = arguments.jobs.resolve() if arguments.jobs else None
    outcome = batch.submit_all(bpy.context, _chosen(scene, arguments), arguments.takes, jobs)
    for job in outcome.queued:
        print(job.folder.path)
    return _say_left_out(outcome)


def _generate(scene: Scene, arguments: argparse.Namespace) -> int:
    obstacle = shots.backend_obstacle()
    if obstacle:
        raise _Failed(obstacle)
    outcome = batch.submit_all(bpy.context, _chosen(scene, arguments), arguments.takes)
    wrong = _say_left_out(outcome)
    said: dict[str, str] = {}
    while any(job.is_active or (job.is_done and not job.is_settled) for job in outcome.queued):
        time.sleep(min(session.tick(), 0.25))
        for job in outcome.queued:
            line = job.record.state
            if job.frames_made and job.is_active:
                line = f"{job.frames_made / FPS:.0f} s made"
            if said.get(job.name) != line:
                said[job.name] = line
                print(f"{job.name}: {line}", flush=True)
        if session.supervisor.trouble:
            raise _Failed(session.supervisor.trouble)
    for job in outcome.queued:
        if job.record.state == JobState.DONE and not job.trouble:
            match = verdicts.match_of(job.folder)
            print(f"{job.folder.clip_mp4}{f': {match.in_words()}' if match else ''}")
        else:
            wrong += 1
            print(f"{job.name}: {job.trouble or job.record.reason}", file=sys.stderr)
    if arguments.save:
        bpy.ops.wm.save_mainfile()
    return wrong


def _say_left_out(outcome: batch.Outcome) -> int:
    for code, reason in outcome.left_out:
        print(f"{code} is left out: {reason}", file=sys.stderr)
    return len(outcome.left_out)


def register() -> None:
    global _command
    _command = bpy.utils.register_cli_command(NAME, main)


def unregister() -> None:
    bpy.utils.unregister_cli_command(_command)
