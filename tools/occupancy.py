# SPDX-License-Identifier: GPL-3.0-or-later
"""What compiled code lets one expect of a multiprocessor: blocks that fit, and bytes on their way from memory.

A prediction from limits that NVIDIA documents, not a measurement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from backend.bench.cards import H100, RTX_5090, Card

# Of a load that misses all caches, assumed; what is published for these cards lies on both sides of it.
LATENCY_NS = 600.0
THREADS_OF_WARP = 32
# Registers are given to a warp in units of 256; shared memory to a block in units of 128 bytes, one KB of it reserved.
_REGISTER_UNIT, _SHARED_UNIT, _RESERVED = 256, 128, 1024
_SIZES = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16}
_LOAD = re.compile(r"\bld\.global[\w.:]*?(?:\.v(\d))?\.[bfus](8|16|32|64|128)\b")
_COPY = re.compile(
    r"\bcp\.async\.c[ag]\.shared\.global[\w.:]*\s*\[[^]]*\],\s*\[[^]]*\],\s*(0x[0-9a-fA-F]+|\d+)"
)
_NEW_STRETCH = re.compile(r"^\s*\$L__BB|\bbra\b")


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of one, by NVIDIA's CUDA programming guide; `card` is the one whose bandwidth it has to keep busy."""

    card: Card
    warps: int
    blocks: int
    registers: int = 65_536
    shared_bytes: int = 0


MULTIPROCESSORS = {
    90: Multiprocessor(H100, warps=64, blocks=32, shared_bytes=228 * 1024),
    120: Multiprocessor(RTX_5090, warps=48, blocks=24, shared_bytes=100 * 1024),
}


@dataclass(frozen=True)
class Prediction:
    """
    Attributes:
        blocks: that a multiprocessor holds at once; 0 if not even one fits.
        limited_by: "registers", "shared memory", "warps" or "blocks".
        occupancy: share of the warps that it could hold.
        in_flight: bytes that these blocks have on their way at most.
        needed: bytes that must be on their way to keep the memory busy: bandwidth times latency (Little's law).
    """

    blocks: int
    limited_by: str
    occupancy: float
    in_flight: int
    needed: int


def predict(capability: int, registers: int, warps: int, shared_bytes: int, ptx: str) -> Prediction:
    """Of a kernel.

    Args:
        registers: of a thread.
        warps: of a block.
        shared_bytes: of a block.
        ptx: its code.
    """
    unit = MULTIPROCESSORS[capability]
    of_warp = _up(registers * THREADS_OF_WARP, _REGISTER_UNIT)
    # Each quarter of a multiprocessor has its own registers.
    fitting_warps = 4 * (unit.registers // 4 // of_warp)
    fits = {
        "registers": fitting_warps // warps,
        "shared memory": unit.shared_bytes // (_up(shared_bytes, _SHARED_UNIT) + _RESERVED),
        "warps": unit.warps // warps,
        "blocks": unit.blocks,
    }
    limited_by = min(fits, key=lambda name: fits[name])
    blocks = fits[limited_by]
    in_flight = blocks * warps * THREADS_OF_WARP * bytes_at_once(ptx)
    needed = unit.card.gb_s * LATENCY_NS / unit.card.multiprocessors  # GB/s times ns is bytes
    return Prediction(blocks, limited_by, blocks * warps / unit.warps, in_flight, round(needed))


def bytes_at_once(ptx: str) -> int:
    """Bytes that a thread asks of global memory in the stretch of code without a branch that asks for most.

    In front of a pipelined loop that is all stages but the one that is computed on.
    """
    most = here = 0
    for line in ptx.splitlines():
        if _NEW_STRETCH.search(line):
            here = 0
        copy, load = _COPY.search(line), _LOAD.search(line)
        if copy:
            here += int(copy[1], 0)
        elif load:
            here += int(load[1] or 1) * _SIZES[load[2]]
        most = max(most, here)
    return most


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
