# SPDX-License-Identifier: GPL-3.0-or-later
"""`blender -b FILE.blend --command sana_wm ...`: the shot list without a window."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import bpy
from bpy.types import Scene, ViewLayer

from ..backend.protocol import FPS, JobState, ProtocolError, limits
from ..backend.protocol.annotation import ENGINES, Summary, length_argument, size_argument
from ..backend.protocol.shot_list import MAX_TAKES
from . import annotate, batch, session, shot_sources, shots, staleness, verdicts
from .followed_job import FollowedJob
from .properties import SANAWM_PG_shot
from .shot_rows import row_of

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
        # A command has no window: the scene is named, or cameras would be followed in another one.
        with bpy.context.temp_override(scene=scene, view_layer=_view_layer(scene)):
            notes = _read(scene, arguments.source) if arguments.source else 0
            wrong = arguments.run(scene, arguments)
            if getattr(arguments, "save", False):
                bpy.ops.wm.save_mainfile()
        return 1 if notes + wrong else 0
    except (_Failed, ProtocolError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"blender -b FILE.blend --command {NAME}", description="The shots of a file.", epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(required=True, metavar="list | check | submit | generate | annotate")

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
    _add_takes(added)
    added.add_argument(
        "--jobs", type=Path, metavar="DIR", help="folder for the jobs; default: beside the .blend"
    )
    added.add_argument(
        "--save", action="store_true", help="save the .blend, which then finds the clips of any folder"
    )
    added = command("generate", _generate, "make the clips now and place them in the sequencer")
    _add_choice(added)
    _add_takes(added)
    added.add_argument("--save", action="store_true", help="save the .blend with the clips in it")
    added = command("annotate", _annotate, "render training clips with depth, pose and lens of every picture")
    _add_annotation(added)
    return parser


def _add_choice(parser: argparse.ArgumentParser) -> None:
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--shots", metavar="CODES", help="only these, separated by commas; default: all")
    choice.add_argument(
        "--stale", action="store_true", help="those without a clip or changed since theirs was made"
    )
    choice.add_argument("--failed", action="store_true", help="those whose last job failed or was cancelled")


def _add_takes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--takes", type=_takes, default=0, metavar="N", help="clips per shot; default: as the list says"
    )


def _add_annotation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the clips; goes on with those in it",
    )
    parser.add_argument(
        "--size", type=size_argument, default=(640, 352), metavar="WxH", help="of the pictures"
    )
    parser.add_argument(
        "--frames", type=length_argument, default=81, metavar="N", help="of each clip, 8k + 1"
    )
    parser.add_argument("--engine", choices=tuple(ENGINES), default="workbench")
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="of Cycles; default: the scene's")
    parser.add_argument(
        "--camera",
        action="append",
        default=[],
        metavar="NAME",
        help="a camera to film with, once for each; default: the shots of the list, or else every camera",
    )
    parser.add_argument(
        "--range", type=int, nargs=2, metavar=("START", "END"), help="scene frames; default: the scene's"
    )


def _takes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_TAKES:
        raise argparse.ArgumentTypeError(f"takes must be a number from 1 to {MAX_TAKES}, not {text}")
    return int(text)


def _scene(name: str | None) -> Scene:
    """The scene by name, or the one that the file was saved with."""
    if not bpy.data.filepath:
        raise _Failed("Name a .blend file: blender -b FILE.blend --command sana_wm ...")
    scene = bpy.data.scenes.get(name) if name else bpy.context.scene
    if scene is None:
        names = ", ".join(scene.name for scene in bpy.data.scenes)
        raise _Failed(f"There is no scene {name} in this file; there are {names}.")
    return scene


def _view_layer(scene: Scene) -> ViewLayer:
    """The one that the file was saved with, or the scene's first."""
    return bpy.context.view_layer if scene == bpy.context.scene else scene.view_layers[0]


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
    listed = batch.shots_of(scene)
    if arguments.shots:
        by_code = {shot.code: shot for shot in listed}
        codes = [code.strip() for code in arguments.shots.split(",")]
        missing = [code for code in codes if code not in by_code]
        if missing:
            raise _Failed(
                f"There is no shot {', '.join(missing)} in the list; there are {', '.join(by_code)}."
            )
        return [by_code[code] for code in dict.fromkeys(codes)]
    if arguments.stale:
        stale, unknown = batch.stale(bpy.context)
        for code, reason in unknown:
            print(f"{code}: {reason}", file=sys.stderr)
        return stale
    if arguments.failed:
        return batch.failed(scene)
    return batch.selected(scene) if arguments.source else listed


def _list(scene: Scene, arguments: argparse.Namespace) -> int:
    wrong = 0
    for settings in batch.shots_of(scene):
        try:
            row = row_of(settings)
        except ProtocolError as error:
            wrong += 1
            print(f"{settings.code}: {error}", file=sys.stderr)
            continue
        take = f"v{row.take:03d}" if row.take else "-"
        frames = f"{row.frame_start}-{row.frame_end}"
        print(f"{row.code:16} {frames:>11}  {row.status or '-':10} {take:5} {row.match}".rstrip())
        changed = batch.known_changes(settings)
        if changed:
            print(f"{'':16} {staleness.in_words(changed)}")
    if arguments.write:
        print(f"{shot_sources.to_file(scene, arguments.write)} shots written to {arguments.write}")
    return wrong


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
    jobs = arguments.jobs.absolute() if arguments.jobs else None
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
    _wait_for(outcome.queued)
    for job in outcome.queued:
        if job.record.state == JobState.DONE and not job.trouble:
            match = verdicts.match_of(job.folder)
            print(f"{job.folder.clip_mp4}{f': {match.in_words()}' if match else ''}")
        else:
            wrong += 1
            print(f"{job.name}: {job.trouble or job.record.reason}", file=sys.stderr)
    return wrong


def _annotate(scene: Scene, arguments: argparse.Namespace) -> int:
    summary = Summary()
    settings = annotate.AnnotationSettings(
        arguments.out.absolute(), arguments.size, arguments.frames, arguments.engine, arguments.samples
    )
    if scene.sana_wm_shots and not (arguments.camera or arguments.range):
        shots_to_film = batch.selected(scene) if arguments.source else batch.shots_of(scene)
        ranges = annotate.ranges_of_shots(scene, shots_to_film, summary)
    else:
        ranges = annotate.ranges_of_cameras(scene, arguments.camera, arguments.range)
    annotate.annotate(scene, bpy.context.view_layer, ranges, settings, summary)
    return len(summary.left_out)


def _wait_for(jobs: list[FollowedJob]) -> None:
    """Until every job has ended and its clip is placed, or none can be made here; says how far they are."""
    said: dict[str, str] = {}
    while any(_goes_on(job) for job in jobs):
        time.sleep(min(session.tick(), 0.25))
        for job in jobs:
            line = f"{job.frames_made / FPS:.0f} s made" if job.growing_clip else job.record.state
            if said.get(job.name) != line:
                said[job.name] = line
                print(f"{job.name}: {line}", flush=True)
        if session.supervisor.trouble:
            print(session.supervisor.trouble, file=sys.stderr)
            return


def _goes_on(job: FollowedJob) -> bool:
    is_followed = job.request_id in session.supervisor.jobs  # not if somebody took its folder away
    return is_followed and (job.is_active or (job.is_done and not job.is_settled))


def _say_left_out(outcome: batch.Outcome) -> int:
    if not outcome.queued and not outcome.left_out:
        print(outcome.in_words(), file=sys.stderr)
    for code, reason in outcome.left_out:
        print(f"{code} is left out: {reason}", file=sys.stderr)
    return len(outcome.left_out)


def register() -> None:
    global _command
    _command = bpy.utils.register_cli_command(NAME, main)


def unregister() -> None:
    bpy.utils.unregister_cli_command(_command)
