# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m backend bench: are the operators right on this device, and how fast are they and the stages of a clip?"""

from __future__ import annotations

import argparse
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..protocol import ProtocolError, atomic

EXIT_CODES = """exit codes: 0 every operator is right, 1 one is not, 2 wrong arguments or no such device,
130 interrupted"""


def main(argv: list[str]) -> int:
    """Prints tables, and writes them as JSON if asked; returns the exit code."""
    arguments = _parser().parse_args(argv)
    if arguments.roofline:
        from .roofline import markdown

        print(markdown())
        return 0
    try:
        return _bench(arguments)
    except (ProtocolError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backend bench",
        description="Checks and times the operators and the stages of a clip; needs no weights.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--device", default="cpu", type=_device, help="cpu (the default), cuda or cuda:N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    parser.add_argument("--quick", action="store_true", help="shorter measurements, and chunks alone")
    parser.add_argument("--whole", action="store_true", help="a whole clip instead of a few passes, scaled")
    parser.add_argument(
        "--roofline", action="store_true", help="instead: the tables of docs/roofline.md, on paper alone"
    )
    return parser


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a device; use cpu, cuda or cuda:N")
    return text


def _bench(arguments: argparse.Namespace) -> int:
    if arguments.json and not arguments.json.absolute().parent.is_dir():
        raise ProtocolError(
            f"There is no folder {arguments.json.absolute().parent}; make it, or name another file."
        )
    import torch

    from .cards import card_of
    from .clock import Clock
    from .rows import COLUMNS, has_failed, table

    device = torch.device(arguments.device)
    _require(torch, device)
    clock = Clock(device, arguments.quick)
    card = card_of(device, clock)
    about = _about(torch, device, card)
    print(f"{about['device']}, torch {about['torch']}. Times: {about['time']}; memory: {about['memory']}.")
    print(about["limit"])
    rows = []
    for section in COLUMNS:
        print(f"\nMeasuring {section} ...", file=sys.stderr, flush=True)
        own = list(_rows(section, arguments, device, clock, card))
        rows += own
        print(f"\n{section.capitalize()}\n{table(section, own)}", flush=True)
    print("\nAn operator is WRONG." if has_failed(rows) else "\nEvery operator is right.")
    if arguments.json:
        record = {**about, "rows": [row.to_record() for row in rows], "passed": not has_failed(rows)}
        atomic.write_json(arguments.json, {"schema": 1, **record})
    return 1 if has_failed(rows) else 0


def _require(torch: Any, device: Any) -> None:
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise ProtocolError(
            "There is no CUDA device that torch can use; `doctor` says why. Or take --device cpu."
        )
    if (device.index or 0) >= torch.cuda.device_count():
        raise ProtocolError(
            f"There is no {device}; this machine has {torch.cuda.device_count()} CUDA devices."
        )


def _about(torch: Any, device: Any, card: Any) -> dict[str, Any]:
    rates = ", ".join(f"{rate:.3g} TFLOP/s {format}" for format, rate in card.tflop_s.items())
    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_gpu else f"CPU, {torch.get_num_threads()} threads",
        "time": "CUDA events, L2 flushed" if is_gpu else "processor time of all threads",
        "memory": "the most that was allocated" if is_gpu else "resident behind the row",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "limit": f"At most {rates} and {card.gb_s:.3g} GB/s ({card.source}).",
    }


def _rows(section: str, arguments: argparse.Namespace, device: Any, clock: Any, card: Any) -> Iterator[Any]:
    from . import operators, random_models, stages, whole_clip
    from .cases import RELEASE, SMALL

    is_gpu, quick = device.type == "cuda", arguments.quick
    models = random_models.RELEASE if is_gpu else random_models.MINIATURE
    precisions = ("bf16", "nvfp4") if is_gpu else ("fp32", "nvfp4")
    if section == "parity":
        return operators.parity_rows(device)
    if section == "operators":
        return operators.speed_rows(device, clock, card, RELEASE if is_gpu else SMALL, clip=not quick)
    if arguments.whole:
        return whole_clip.whole_rows(models, precisions, device, clock, card)
    return stages.stage_rows(models, precisions, device, clock, card, bidirectional=not quick)
