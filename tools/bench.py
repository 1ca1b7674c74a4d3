# SPDX-License-Identifier: GPL-3.0-or-later
"""`build.py bench`: every measurement in one run, as a table and as bench.json.

Each bench module has `run(quick) -> list[dict]`, one dict per name: {"name", "value", "unit", "ours",
"theirs", "target", "conditions"}. A side or a target that does not exist is None.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

from . import bench_demo, bench_gdn, bench_match, bench_stage1, bench_streaming, bench_training

RESULT = Path(__file__).resolve().parents[1] / "bench.json"


def machine() -> dict:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def table(rows: list[dict]) -> str:
    def cell(value) -> str:
        return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    keys = ("name", "value", "unit", "ours", "theirs", "target")
    cells = [keys, *(tuple(cell(row.get(key)) for key in keys) for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(keys))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="build.py bench")
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    conditions = machine()
    rows = []
    for module in (bench_stage1, bench_gdn, bench_demo, bench_match, bench_streaming, bench_training):
        print(f"Measuring {module.__name__.rpartition('.')[2].removeprefix('bench_')} ...", flush=True)
        rows += module.run(quick)
    print(table(rows))
    for row in rows:
        print(f"  {row['name']}: {row.get('conditions', '')}")
    RESULT.write_text(json.dumps({"machine": conditions, "quick": quick, "results": rows}, indent=2), "utf-8")
    print(f"Written to {RESULT}")


if __name__ == "__main__":
    main()
