# SPDX-License-Identifier: GPL-3.0-or-later
"""`build.py bench --kernels`: every shipped Triton kernel compiled for GPUs that are not there, as two tables.

What the compiler made of them is written into kernels/README.md, and what that lets one expect into
docs/roofline.md, each between its two marks.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from kernels.ahead_of_time import SHARED_LIMITS, Build, MachineCode, compile_for

from .occupancy import MULTIPROCESSORS, predict

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ROOT / "kernels"
README, ROOFLINE = KERNELS / "README.md", ROOT / "docs" / "roofline.md"
_TITLES = ("kernel", "sm", "registers", "spills (bytes)", "shared (KB)", "instruction")
_PREDICTED = (
    "kernel",
    "sm",
    "warps of a block",
    "blocks of a multiprocessor",
    "limited by",
    "occupancy",
    "KB on their way",
    "KB needed",
)


def builds() -> Iterator[Build]:
    """Of every module of kernels/ that has some."""
    for path in sorted(KERNELS.glob("*/*.py")):
        if "\ndef builds()" in path.read_text("utf-8"):
            yield from importlib.import_module(f"kernels.{path.parent.name}.{path.stem}").builds()


def row(build: Build, capability: int, code: MachineCode) -> str:
    instruction = f"`{code.instruction}`" if code.instruction else "-"
    limit = SHARED_LIMITS[capability]
    shared = f"{code.shared_bytes / 1024:.0f}{' over the limit' if code.shared_bytes > limit else ''}"
    return _line((build.name, capability, code.registers, code.stack_bytes, shared, instruction))


def predicted_row(build: Build, capability: int, code: MachineCode) -> str:
    found = predict(capability, code.registers, build.warps, code.shared_bytes, code.ptx)
    sizes = (f"{found.in_flight / 1024:.0f}", f"{found.needed / 1024:.0f}")
    occupancy = f"{found.occupancy:.0%}"
    return _line((build.name, capability, build.warps, found.blocks, found.limited_by, occupancy, *sizes))


def main() -> None:
    compiled, predicted = [], []
    for build in builds():
        for capability in build.instructions:
            code = compile_for(build, capability)
            compiled.append(row(build, capability, code))
            print(compiled[-1], flush=True)
            if capability in MULTIPROCESSORS:
                predicted.append(predicted_row(build, capability, code))
    write(README, "table", [_line(_TITLES), "|---|---:|---:|---:|---:|---|", *compiled])
    heading = [_line(_PREDICTED), "|---|---:|---:|---:|---|---:|---:|---:|"]
    write(ROOFLINE, "prediction", [*heading, *predicted])


def write(page: Path, name: str, lines: list[str]) -> None:
    """Replace what stands between a page's marks of this name."""
    begin, end = (f"<!-- {name}: {place} -->" for place in ("begin", "end"))
    before, rest = page.read_text("utf-8").split(begin)
    _, after = rest.split(end)
    page.write_text("\n".join([before + begin, *lines, end + after]), "utf-8")
    print(f"Written to {page}")


def _line(cells: tuple) -> str:
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
