# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a long streamed clip cost more memory, or more time a chunk, than a short one, and when is it first seen?

Once for whole jobs of the embedded model and once for a small random model of the released kind, each length in a
process of its own. The video encoder is another process and does not count.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from backend.protocol import JobFolder, JobState, Preset
from backend.protocol.limits import STREAMING_CHUNK
from backend.worker import ModelShelf, run_job

from .bench_demo import PRESETS, orbit_job
from .bench_stage1 import status_mb
from .small_stream import Sizes, stream

LENGTHS, QUICK_LENGTHS = (241, 961), (73, 313)
JOB_SIZE = (320, 192)
SIZES = Sizes(hidden_size=224, decoder_channels=16, cells=(4, 7))
# Chunk 0 is longer, and chunk 1 is the first of its shape.
LEFT_OUT, COMPARED, REPEATS = 2, 10, 2
# glibc otherwise moves this threshold while it runs, and peaks of equal small runs differ by some per cent.
HELD_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
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
    short_model, long_model = (_measured("model", str(frames), HELD_ALLOCATOR) for frames in lengths)
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
            "streaming_model_memory_growth",
            short_model["peak_mb"],
            long_model["peak_mb"],
            lengths,
            f"{model}, glibc's mmap threshold held at 1 MiB",
        ),
        _drift(_measured("chunks", str(lengths[1]))["pairs"], lengths[1], model),
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


def _drift(pairs: list[tuple[float, float]], frames: int, conditions: str) -> dict:
    early, late = (statistics.median(side) for side in zip(*pairs, strict=True))
    conditions = (
        f"CPU time of each of the last {len(pairs) // REPEATS} chunks of {frames} frames (median {late:.3f} s) over "
        f"that of a chunk from number {LEFT_OUT} on of a clip begun anew ({early:.3f} s), in turns, median of the "
        f"ratios less 1, {REPEATS} clips; {conditions}"
    )
    return _row("streaming_time_drift", statistics.median(b / a for a, b in pairs) - 1, "share", conditions)


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
        Preset.load(PRESETS / "embedded_draft.json"),
        name="Streaming bench",
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


def _measured(what: str, of: str, variables: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.bench_streaming", what, of]
    environment = {**os.environ, **variables}
    ended = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout)


def _make_job(job: JobFolder) -> dict[str, Any]:
    """In a process of its own, as a worker does."""
    record = run_job(job, ModelShelf("cpu"), threading.Event())
    if record is None or record.state != JobState.DONE:
        raise RuntimeError(f"The bench job ended as {record}.")
    return {"peak_mb": status_mb("VmHWM")}


def _run_model(frames: int) -> dict[str, Any]:
    """In a process of its own: the clip made and thrown away, chunk by chunk."""
    torch.set_flush_denormal(True)
    for _ in stream(SIZES, frames):
        pass
    return {"peak_mb": status_mb("VmHWM")}


def _time_chunks(frames: int) -> dict[str, Any]:
    """In a process of its own: CPU seconds of early chunks and of a clip's last ones, in turns, because other
    programs slow the machine down for longer than a chunk."""
    torch.set_flush_denormal(True)
    chunks = frames // STREAMING_CHUNK
    compared = min(COMPARED, chunks - LEFT_OUT)
    pairs = []
    for _ in range(REPEATS):
        fresh, long = stream(SIZES, frames), stream(SIZES, frames)
        for clip, before in ((long, chunks - compared), (fresh, LEFT_OUT)):
            for _ in range(before):
                next(clip)
        for index in range(compared):
            turns = ((fresh, long), (long, fresh))[index % 2]
            pair = [_next_s(clip) for clip in turns]
            pairs.append(pair if index % 2 == 0 else pair[::-1])
    return {"pairs": pairs}


def _next_s(clip: Iterator) -> float:
    started = time.process_time()
    next(clip)
    return time.process_time() - started


_MEASUREMENTS = {
    "job": lambda path: _make_job(JobFolder(Path(path))),
    "model": lambda frames: _run_model(int(frames)),
    "chunks": lambda frames: _time_chunks(int(frames)),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    what, of = sys.argv[1:]
    print(json.dumps(_MEASUREMENTS[what](of)))
