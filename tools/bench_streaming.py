# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a long streamed clip cost more memory, or more time a chunk, than a short one, and when is it first seen?

Once for whole jobs of the embedded model and once for a small random model of the released kind, each length in a
process of its own. The video encoder is another process and does not count.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from backend.protocol import JobFolder, JobState, Preset
from backend.sampling.self_forcing import RELEASED_STEP_LIST
from backend.worker import ModelShelf, run_job

from .bench_demo import PRESETS, orbit_job
from .bench_stage1 import status_mb
from .small_stream import Sizes, stream

LENGTHS, QUICK_LENGTHS = (241, 961), (73, 313)
JOB_SIZE = (320, 192)
SIZES = Sizes(hidden_size=224, decoder_channels=16, cells=(4, 7))
# Chunk 0 is longer and chunk 1 the first of its shape.
LEFT_OUT, COMPARED = 2, 10
TARGETS = {
    "streaming_memory_growth": 1.02,
    "streaming_model_memory_growth": 1.02,
    "streaming_time_drift": 0.05,
    "first_frame_share": 0.1,
}
ROOT = Path(__file__).resolve().parents[1]


def run(quick: bool) -> list[dict]:
    """A whole job and the model alone at 241 and at 961 frames (quick: 73 and 313)."""
    lengths = QUICK_LENGTHS if quick else LENGTHS
    short, long = (_of_job(frames) for frames in lengths)
    short_model, long_model = (_measured("model", str(frames)) for frames in lengths)
    width, height = JOB_SIZE
    job = f"a streaming job of the embedded model at {width}x{height}, CPU, one process for each length"
    cells = f"{SIZES.cells[0]} x {SIZES.cells[1]}"
    model = (
        f"stage 1 ({SIZES.hidden_size} wide, {SIZES.blocks} blocks, {cells} cells) with random weights and causal "
        "LTX-2 decoder, one thread"
    )
    return [
        _growth("streaming_memory_growth", short["peak_mb"], long["peak_mb"], lengths, job),
        _growth(
            "streaming_model_memory_growth", short_model["peak_mb"], long_model["peak_mb"], lengths, model
        ),
        _drift(long_model["chunk_s"], model),
        _row(
            "first_frame_share",
            long["first_frame_s"] / long["whole_s"],
            "share",
            f"{long['first_frame_s']:.1f} of {long['whole_s']:.1f} s from taking the job to the first frames in its "
            f"preview, loading the model included; {lengths[1]} frames, {job}",
        ),
    ]


def _growth(name: str, short_mb: float, long_mb: float, lengths: tuple[int, int], conditions: str) -> dict:
    conditions = (
        f"peak resident memory {long_mb:.0f} MB at {lengths[1]} frames over {short_mb:.0f} MB at {lengths[0]}; "
        f"{conditions}"
    )
    return _row(name, long_mb / short_mb, "ratio", conditions)


def _drift(chunk_s: list[float], conditions: str) -> dict:
    compared = min(COMPARED, (len(chunk_s) - LEFT_OUT) // 2)
    early = statistics.median(chunk_s[LEFT_OUT : LEFT_OUT + compared])
    late = statistics.median(chunk_s[-compared:])
    conditions = (
        f"CPU time a chunk of 24 frames, median of the last {compared} of {len(chunk_s)} ({late:.3f} s) against "
        f"chunks {LEFT_OUT} to {LEFT_OUT + compared - 1} ({early:.3f} s), one run; {conditions}"
    )
    return _row("streaming_time_drift", late / early - 1, "share", conditions)


def _row(name: str, value: float, unit: str, conditions: str) -> dict:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "ours": value,
        "theirs": None,
        "target": TARGETS[name],
        "conditions": conditions,
    }


def _of_job(frames: int) -> dict[str, Any]:
    preset = replace(
        Preset.load(PRESETS / "embedded.json"),
        name="Streaming bench",
        variant="streaming",
        step_list=RELEASED_STEP_LIST,
        image_size=JOB_SIZE,
    )
    with tempfile.TemporaryDirectory() as folder:
        job = orbit_job(Path(folder), preset, frames)
        measured = _measured("job", str(job.path))
        events = list(job.event_reader().poll())
    began_s = events[0]["time"]
    first = next(event for event in events if event["kind"] == "frames")
    return {
        **measured,
        "first_frame_s": first["time"] - began_s,
        "whole_s": events[-1]["time"] - began_s,
    }


def _measured(what: str, of: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.bench_streaming", what, of]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _make_job(job: JobFolder) -> dict[str, Any]:
    """In a process of its own, as a worker does."""
    record = run_job(job, ModelShelf("cpu"), threading.Event())
    if record is None or record.state != JobState.DONE:
        raise RuntimeError(f"The bench job ended as {record}.")
    return {"peak_mb": status_mb("VmHWM")}


def _run_model(frames: int) -> dict[str, Any]:
    """In a process of its own: the clip made and thrown away, chunk by chunk."""
    torch.set_flush_denormal(True)
    times = [time.process_time()]
    for _ in stream(SIZES, frames):
        times.append(time.process_time())
    return {"peak_mb": status_mb("VmHWM"), "chunk_s": [after - before for before, after in pairwise(times)]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, of = sys.argv[1:]
    print(json.dumps(_make_job(JobFolder(Path(of))) if what == "job" else _run_model(int(of))))
