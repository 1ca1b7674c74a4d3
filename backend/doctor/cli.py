# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m backend doctor: what this machine can run, and what of a download is there, whole and usable."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import report as reports
from .words import text

EXIT_CODES = """exit codes: 0 at least one preset can run and nothing is damaged, 1 no preset can run or something that
is there is damaged, 2 wrong arguments, 130 interrupted"""


def main(argv: list[str]) -> int:
    """Prints the report; returns the exit code. Writes nothing else, and asks no network."""
    arguments = _parser().parse_args(argv)
    progress = _Progress()
    try:
        report = reports.look(
            arguments.device, arguments.memory, arguments.weights, progress if arguments.hash else None
        )
    except KeyboardInterrupt:
        return 130
    finally:
        progress.end()
    sys.stdout.reconfigure(errors="backslashreplace")  # a path may have what a terminal or a pipe cannot show
    if arguments.json:
        print(json.dumps(report.to_record(), indent=2, ensure_ascii=False))
    else:
        print(text(report), end="")
    return 0 if report.runnable and not report.damages else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backend doctor",
        description="Says what this machine can run. Downloads, loads and writes nothing.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder of SANA-WM's weights")
    device = parser.add_mutually_exclusive_group()
    device.add_argument(
        "--device", choices=("cpu", "cuda"), help="plan for this one; otherwise for the GPU if there is one"
    )
    device.add_argument(
        "--memory",
        type=_gigabytes,
        metavar="GB",
        help="plan for a GPU with so much memory free, in place of any here",
    )
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.add_argument("--hash", action="store_true", help="read every byte of the weights; takes minutes")
    return parser


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a memory size in GB; write a number such as 24")
    return value


class _Progress:
    """How far the reading of the weights is, on the terminal; a line for each part where there is none."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, title: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            line = f"Reading {title}: {done / 1e9:.1f} of {total / 1e9:.1f} GB"
            if line != self._said:
                print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            line = f"Reading {title}"
            if line != self._said:
                print(line, file=sys.stderr, flush=True)
        self._said = line

    def end(self) -> None:
        if self._said and sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
