# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m backend data: make datasets from three sources, check them, look at them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..blender_command import program_for
from ..protocol import ProtocolError, atomic
from ..protocol.annotation import ENGINES, length_argument, size_argument
from .blender import BlenderSettings
from .blender import clips_of as blender_clips
from .blockout import BlockoutSettings, clip_name, make_clips
from .clip import Rejected, SourceClip
from .codecs import CODECS, Codec, check_size, load_codec
from .footage import FootageSettings, find
from .footage import clips_of as footage_clips
from .footage_poses import KINDS
from .shards import DatasetInfo, ShardWriter
from .sheet import write_sheets
from .validate import REJECTED_NAME, validate

EXIT_CODES = "exit codes: 0 done and sound, 1 the dataset has problems or no clips, 2 it could not be made, 130 stopped"
SHEET_CLIPS = 16


def main(argv: list[str]) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.act(arguments)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    except (ProtocolError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m backend data", description=__doc__, epilog=EXIT_CODES)
    commands = parser.add_subparsers(required=True, metavar="blockout | blender | footage | validate | sheet")

    def command(name, act, help):
        added = commands.add_parser(name, help=help, description=help, epilog=EXIT_CODES)
        added.set_defaults(act=act)
        return added

    added = command("blockout", _blockout, "clips of generated scenes")
    added.add_argument(
        "--clips", type=_positive, required=True, metavar="N", help="how many; more go on with fewer"
    )
    added.add_argument("--seed", type=_natural, default=0, metavar="N", help="another one makes other scenes")
    added.add_argument(
        "--processes", type=_positive, default=1, metavar="N", help="that render at the same time"
    )
    _add_making(added, size=(320, 192))
    _add_depth(added)

    added = command("blender", _blender, "clips of .blend files, with exact depth, pose and lens")
    added.add_argument("files", type=Path, nargs="+", metavar="FILE.blend")
    added.add_argument(
        "--blender", default="blender", metavar="PROGRAM", help="Blender with the extension installed"
    )
    added.add_argument("--engine", choices=tuple(ENGINES), default="workbench")
    added.add_argument(
        "--samples", type=_natural, default=0, metavar="N", help="of Cycles; default: the scene's"
    )
    added.add_argument(
        "--camera",
        action="append",
        default=[],
        metavar="NAME",
        help="once for each; default: the shots of the file's list, or else every camera",
    )
    added.add_argument(
        "--range", type=int, nargs=2, metavar=("START", "END"), help="scene frames; default: the scene's"
    )
    _add_making(added, size=(640, 352))
    _add_depth(added)

    added = command("footage", _footage, "clips of films or folders of pictures with solved cameras")
    added.add_argument("folder", type=Path, metavar="FOLDER")
    added.add_argument("--poses", choices=tuple(KINDS), required=True, help="what the solver wrote")
    added.add_argument("--fps", type=float, metavar="N", help="of folders of pictures")
    added.add_argument(
        "--lens",
        type=_lens,
        metavar="FX,FY,CX,CY",
        help="in pixels of the footage, where the poses have none (tum)",
    )
    added.add_argument(
        "--metres-per-unit", type=_scale, default=1.0, metavar="X", help="of the solver's world (default 1)"
    )
    _add_making(added, size=(640, 352))

    added = command(
        "validate", _validate, "read everything again; report.txt and report.json say what was found"
    )
    added.add_argument("dataset", type=Path, metavar="DATASET")
    _add_codec_place(added)
    added = command("sheet", _sheet, "contact sheets, as pictures in the dataset's folder sheets")
    added.add_argument("dataset", type=Path, metavar="DATASET")
    added.add_argument("--clips", type=_positive, default=SHEET_CLIPS, metavar="N", help="how many to show")
    _add_codec_place(added)
    return parser


def _add_making(parser: argparse.ArgumentParser, size: tuple[int, int]) -> None:
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DATASET", help="goes on with what is there"
    )
    parser.add_argument("--codec", choices=CODECS, default="linear", help="of the latents; none keeps frames")
    parser.add_argument(
        "--size", type=size_argument, default=size, metavar="WxH", help=f"default {size[0]}x{size[1]}"
    )
    parser.add_argument(
        "--frames", type=length_argument, default=81, metavar="N", help="of each clip, 8k + 1"
    )
    _add_codec_place(parser)


def _add_codec_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="for the codec ltx2: folder of SANA-WM's weights"
    )
    parser.add_argument("--device", default="cpu", help="for the codec ltx2: cpu (the default) or cuda")


def _add_depth(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-depth", action="store_true", help="leave the depth out, which takes most of the space"
    )


def _blockout(arguments: argparse.Namespace) -> int:
    settings = BlockoutSettings(arguments.seed, arguments.frames, arguments.size, not arguments.no_depth)
    torch.set_num_threads(1)
    with _writer(arguments, "blockout", settings.record()) as (writer, codec):
        missing = [index for index in range(arguments.clips) if clip_name(index) not in writer.names]
        return _fill(writer, codec, make_clips(settings, missing, arguments.processes))


def _blender(arguments: argparse.Namespace) -> int:
    settings = BlenderSettings(
        program=arguments.blender,
        engine=arguments.engine,
        samples=arguments.samples,
        frames=arguments.frames,
        size=arguments.size,
        depth=not arguments.no_depth,
        cameras=tuple(arguments.camera),
        range=arguments.range,
    )
    for file in arguments.files:
        program_for(settings.program, file)
    with _writer(arguments, "blender", settings.record()) as (writer, codec):
        work = writer.folder / "blender"
        return _fill(writer, codec, blender_clips(arguments.files, work, settings, writer.names))


def _footage(arguments: argparse.Namespace) -> int:
    settings = FootageSettings(
        arguments.poses,
        arguments.frames,
        arguments.size,
        arguments.fps,
        arguments.lens,
        arguments.metres_per_unit,
    )
    find(arguments.folder)
    with _writer(arguments, "footage", settings.record()) as (writer, codec):
        return _fill(writer, codec, footage_clips(arguments.folder, settings, writer.names))


@contextmanager
def _writer(
    arguments: argparse.Namespace, source: str, settings: dict[str, Any]
) -> Iterator[tuple[ShardWriter, Codec | None]]:
    codec = load_codec(arguments.codec, arguments.weights, arguments.device)
    check_size(arguments.size, codec)
    sha256 = codec.sha256 if codec else ""
    info = DatasetInfo(arguments.codec, sha256, arguments.size, arguments.frames, source, settings)
    with ShardWriter(arguments.out, info) as writer:
        yield writer, codec


def _fill(writer: ShardWriter, codec: Codec | None, clips: Iterable[SourceClip | Rejected]) -> int:
    """Encode and keep what comes, then check the whole and make its sheets."""
    rejected = []
    for clip in clips:
        if isinstance(clip, Rejected):
            rejected.append(asdict(clip))
            print(f"{clip.name} is not taken: {clip.reason}", file=sys.stderr, flush=True)
            continue
        writer.add(clip.name, _tensors(clip, codec), clip.caption, clip.origin)
        print(f"{clip.name}: kept", flush=True)
    writer.finish()
    atomic.write_json(writer.folder / REJECTED_NAME, rejected)
    return _check_and_show(writer.folder, codec)


def _tensors(clip: SourceClip, codec: Codec | None) -> dict[str, Tensor]:
    tensors = {
        "c2w": torch.from_numpy(clip.camera.c2w),
        "intrinsics": torch.from_numpy(clip.camera.intrinsics).float(),
    }
    if codec is None:
        tensors["frames"] = torch.from_numpy(clip.frames)
    else:
        tensors["latents"] = codec.encode(clip.frames).contiguous()
    if clip.depth_m is not None:
        tensors["depth"] = torch.from_numpy(clip.depth_m)
    return tensors


def _check_and_show(folder: Path, codec: Codec | None) -> int:
    report = validate(folder, codec)
    report.save(folder)
    print(report.in_words(folder), end="")
    if not report.figures.get("clips"):
        print("No clip was taken.", file=sys.stderr)
        return 1
    for path in write_sheets(folder, codec, SHEET_CLIPS):
        print(path)
    return 1 if report.problems else 0


def _validate(arguments: argparse.Namespace) -> int:
    name, missing = DatasetInfo.load(arguments.dataset).codec, ""
    try:
        codec = load_codec(name, arguments.weights, arguments.device)
    except ProtocolError as error:
        codec, missing = None, str(error)
    report = validate(arguments.dataset, codec, missing)
    report.save(arguments.dataset)
    print(report.in_words(arguments.dataset), end="")
    return 1 if report.problems else 0


def _sheet(arguments: argparse.Namespace) -> int:
    name = DatasetInfo.load(arguments.dataset).codec
    codec = load_codec(name, arguments.weights, arguments.device)
    for path in write_sheets(arguments.dataset, codec, arguments.clips):
        print(path)
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return int(text)


def _scale(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not a scale; it must be positive")
    return value


def _lens(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or not all(0 < value < 1e5 for value in values):
        raise argparse.ArgumentTypeError(f"{text} is no lens; write fx,fy,cx,cy in pixels")
    return values
