# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m backend weights convert: the released student's checkpoint as a file that this program loads."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .streaming_release import STREAMING_CONFIG, convert_training_checkpoint, recorded_steps, spelled


def main(argv: list[str]) -> int:
    """Returns the exit code: 0 done, 1 the checkpoint or the target cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m backend weights")
    commands = parser.add_subparsers(dest="command", required=True)
    convert = commands.add_parser("convert", help="model.pt of the streaming release to safetensors, once")
    convert.add_argument("source", type=Path, metavar="MODEL_PT")
    convert.add_argument("target", type=Path, metavar="SAFETENSORS")
    arguments = parser.parse_args(argv)
    try:
        written = convert_training_checkpoint(arguments.source, arguments.target, STREAMING_CONFIG)
        steps = recorded_steps(arguments.target)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{arguments.target} {'is written' if written else 'was up to date'}.")
    print(f"It was trained with the steps {spelled(steps)}." if steps else "It does not say its steps.")
    return 0
