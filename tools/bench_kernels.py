# SPDX-License-Identifier: GPL-3.0-or-later
"""`build.py bench --kernels`: every shipped Triton kernel compiled for GPUs that are not there, as a table.

The table is written into kernels/README.md between its two marks.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from kernels.ahead_of_time import SHARED_LIMITS, Build, MachineCode, compile_for

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
README = KERNELS / "README.md"
_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"
_TITLES = ("kernel", "sm", "registers", "spills (bytes)", "shared (KB)", "instruction")


def builds() -> Iterator[Build]:
    """Of every module of kernels/ that has some."""
    for path in sorted(KERNELS.glob("*/*.py")):
        if "\ndef builds()" in path.read_text("utf-8"):
            yield from importlib.import_module(f"kernels.{path.parent.name}.{path.stem}").builds()


def row(build: Build, capability: int, code: MachineCode) -> str:
    instruction = f"`{code.instruction}`" if code.instruction else "-"
    limit = SHARED_LIMITS[capability]
    shared = f"{code.shared_bytes / 1024:.0f}{' over the limit' if code.shared_bytes > limit else ''}"
    cells = (build.name, capability, code.registers, code.stack_bytes, shared, instruction)
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    lines = [f"| {' | '.join(_TITLES)} |", "|---|---:|---:|---:|---:|---|"]
    for build in builds():
        for capability in build.instructions:
            lines.append(row(build, capability, compile_for(build, capability)))
            print(lines[-1], flush=True)
    before, rest = README.read_text("utf-8").split(_BEGIN)
    _, after = rest.split(_END)
    README.write_text("\n".join([before + _BEGIN, *lines, _END + after]), "utf-8")
    print(f"Written to {README}")


if __name__ == "__main__":
    main()
