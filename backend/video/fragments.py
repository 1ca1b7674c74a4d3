# SPDX-License-Identifier: GPL-3.0-or-later
"""The boxes of a fragmented mp4 with one video track: a header (ftyp, moov), then fragments (moof, mdat)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO, NamedTuple

TICKS_PER_FRAME = 1024  # of the track's clock
_BOX = struct.Struct(">I4s")  # size, kind
# A box of a moof says its version and flags in four bytes, then come the fields.
_SEQUENCE = struct.Struct(">I")  # mfhd, from 1
_DECODE_TIME = struct.Struct(">Q")  # tfdt of version 1, in ticks
_SAMPLE_COUNT = struct.Struct(">I")  # trun


class Recorded(NamedTuple):
    """What a growing file holds: frames, the fragments they are in, and the bytes up to the last one's end."""

    frames: int = 0
    fragments: int = 0
    size: int = 0


class _Box(NamedTuple):
    kind: bytes
    start: int
    end: int


def split(segment: bytes) -> tuple[bytes, bytes]:
    """Header and fragment of an mp4 with one fragment.

    Raises:
        ValueError: it is anything else.
    """
    boxes = list(_boxes(BytesIO(segment), 0, len(segment)))
    kinds = [box.kind for box in boxes]
    if kinds != [b"ftyp", b"moov", b"moof", b"mdat"] or boxes[-1].end != len(segment):
        raise ValueError(f"not an mp4 with one fragment: {kinds}, {len(segment)} bytes")
    return segment[: boxes[2].start], segment[boxes[2].start :]


def place(fragment: bytes, index: int, first_frame: int) -> bytes:
    """The same fragment as number `index`, counted from 0, of a file that holds `first_frame` frames so far."""
    placed, fields = bytearray(fragment), _fields(fragment)
    _SEQUENCE.pack_into(placed, fields[b"mfhd"], index + 1)
    _DECODE_TIME.pack_into(placed, fields[b"tfdt"], first_frame * TICKS_PER_FRAME)
    return bytes(placed)


def scan(file: BinaryIO, header: bytes) -> Recorded:
    """Count what a growing file holds; nothing if it does not begin with `header`.

    Fragments count up to the first that is cut off, damaged or out of its place.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    recorded = Recorded()
    if file.read(len(header)) != header:
        return recorded
    boxes = _boxes(file, len(header), length)
    for moof, mdat in zip(boxes, boxes, strict=False):
        if (moof.kind, mdat.kind) != (b"moof", b"mdat"):
            break
        file.seek(moof.start)
        data = file.read(moof.end - moof.start)
        try:
            fields = _fields(data)
            sequence, *_ = _SEQUENCE.unpack_from(data, fields[b"mfhd"])
            decode_time, *_ = _DECODE_TIME.unpack_from(data, fields[b"tfdt"])
            samples, *_ = _SAMPLE_COUNT.unpack_from(data, fields[b"trun"])
        except (KeyError, struct.error):
            break
        if (sequence, decode_time) != (recorded.fragments + 1, recorded.frames * TICKS_PER_FRAME):
            break
        recorded = Recorded(recorded.frames + samples, recorded.fragments + 1, mdat.end)
    return recorded


def _fields(fragment: bytes) -> dict[bytes, int]:
    """Where the fields begin in each box of the moof that a fragment begins with."""
    file = BytesIO(fragment)
    moof = next(_boxes(file, 0, len(fragment)))
    boxes = list(_boxes(file, moof.start + _BOX.size, moof.end))
    for traf in (box for box in boxes if box.kind == b"traf"):
        boxes += _boxes(file, traf.start + _BOX.size, traf.end)
    return {box.kind: box.start + _BOX.size + 4 for box in boxes}


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    """The boxes side by side in a range of bytes, up to the first that is not whole."""
    while start + _BOX.size <= end:
        file.seek(start)
        size, kind = _BOX.unpack(file.read(_BOX.size))
        if size < _BOX.size or start + size > end:
            return
        yield _Box(kind, start, start + size)
        start += size
