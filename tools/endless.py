# SPDX-License-Identifier: GPL-3.0-or-later
"""An hour-long camera path through a small streaming model: a thousand chunks in the memory of a hundred.

    python -m tools.endless [--chunks 1000]

The path has 57,601 samples; student and decoder have random weights and go along it chunk by chunk, as the released
ones do. Ends with exit code 1 if memory grew by more than 2 % behind the first hundred chunks or a pixel is not finite.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from backend.memory import memory_mb
from backend.protocol import FPS
from backend.protocol.limits import STREAMING_CHUNK

from .small_stream import Sizes, stream

FRAMES = 3600 * FPS + 1
CHUNKS = FRAMES // STREAMING_CHUNK
REPORT_EVERY = 100
MOST_GROWTH = 0.02
SIZES = Sizes(hidden_size=96, decoder_channels=8, cells=(3, 4))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=1000, help="how many of the hour's 2400 (default 1000)")
    chunks = parser.parse_args().chunks
    if not 2 * REPORT_EVERY <= chunks <= CHUNKS:
        parser.error(f"the number of chunks must lie between {2 * REPORT_EVERY} and {CHUNKS}.")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    print(f"{'chunk':>6} {'clip s':>8} {'memory MB':>10} {'CPU s a chunk':>14}")
    memory, seconds, began_s = [], [], 0.0
    for count, (_, pixels) in enumerate(stream(SIZES, FRAMES), start=1):
        if not torch.isfinite(pixels).all():
            print(f"Chunk {count} has pixels that are not finite.")
            return 1
        if count == 1:
            began_s = time.process_time()  # without what is done once
        if count % REPORT_EVERY == 0:
            now_s = time.process_time()
            memory.append(memory_mb())
            seconds.append((now_s - began_s) / (REPORT_EVERY - (count == REPORT_EVERY)))
            began_s = now_s
            clip_s = STREAMING_CHUNK * count / FPS
            print(f"{count:6} {clip_s:8.1f} {memory[-1]:10} {seconds[-1]:14.3f}", flush=True)
        if count == chunks:
            break
    growth = memory[-1] / memory[0] - 1
    print(
        f"From chunk {REPORT_EVERY} to {len(memory) * REPORT_EVERY} memory grew by {growth:+.1%}, at most to "
        f"{max(memory)} MB; CPU time a chunk by {seconds[-1] / seconds[0] - 1:+.1%} "
        f"(median {sorted(seconds)[len(seconds) // 2]:.3f} s)."
    )
    return 1 if max(memory) > (1 + MOST_GROWTH) * memory[0] else 0


if __name__ == "__main__":
    sys.exit(main())
