# SPDX-License-Identifier: GPL-3.0-or-later
"""An edit as a CMX3600 edit decision list: cuts with timecodes, and what became of each shot as comments."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

from . import atomic
from .errors import ProtocolError
from .shot_list import ShotRow
from .text_files import read_text
from .timeline_edit import Edit, Placed, row_for_cut

# Frames per second -> frames that a second of timecode counts, without dropped numbers.
_RATES = {
    Fraction(24): 24,
    Fraction(25): 25,
    Fraction(30): 30,
    Fraction(24000, 1001): 24,
    Fraction(30000, 1001): 30,
}
_MAX_EVENTS = 999
_MARK = "SANA_WM"
_COMMENT = re.compile(rf"\*\s*{_MARK} ([A-Z]+): (.*)")
_NAME = re.compile(r"\*\s*FROM CLIP NAME:\s*(.*)")
_TIMECODE = r"(\d\d:\d\d:\d\d[:;]\d\d)"
_EVENT = re.compile(rf"(\d+)\s+(\S+)\s+(\S+)\s+.*?\s*{_TIMECODE}\s+{_TIMECODE}\s+{_TIMECODE}\s+{_TIMECODE}")


def write_edl(path: Path, edit: Edit) -> None:
    """Replace `path` by the edit, atomically; the program begins at one hour, each clip at zero.

    Raises:
        ProtocolError: the frame rate has no timecode without dropped numbers, or there are more shots or hours
            than the format counts.
    """
    base = _base(edit.fps)
    if len(edit.shots) > _MAX_EVENTS:
        raise ProtocolError(f"An EDL holds {_MAX_EVENTS} shots, not {len(edit.shots)}; write an OTIO file.")
    hour = 3600 * base
    if edit.shots and edit.shots[-1].end > 23 * hour:
        raise ProtocolError("An EDL ends at 24 hours, and this edit goes on; write an OTIO file.")
    lines = [f"TITLE: {_one_line(edit.name)}", "FCM: NON-DROP FRAME", ""]
    for number, shot in enumerate(edit.shots, start=1):
        frames = (0, shot.duration, hour + shot.start, hour + shot.end)
        times = " ".join(_timecode(frame, base) for frame in frames)
        row = shot.row
        lines.append(f"{number:03d}  AX       V     C        {times}")
        lines.append(f"* FROM CLIP NAME: {row.version_name}")
        said = {
            "SHOT": row.code, "NAME": row.name, "FRAMES": f"{row.frame_start} {row.frame_end}",
            "STATUS": row.status, "TAKE": str(row.take or ""), "CLIP": row.clip, "MATCH": row.match,
        }  # fmt: skip
        lines += [f"* {_MARK} {key}: {_one_line(text)}" for key, text in said.items() if text]
    atomic.write_bytes(path, ("\r\n".join(lines) + "\r\n").encode())


def read_edl(path: Path, fps: float, first_frame: int = 1) -> Edit:
    """Read the video cuts.

    Args:
        fps: frames per second, which the file does not hold.
        first_frame: scene frame of the edit's full hour, for cuts of other programs; those written by
            `write_edl` know their frames.

    Returns:
        The edit from its full hour on. Rows hold code, name, range and outcome; the rest has defaults.

    Raises:
        ProtocolError: missing, not text, or a line is wrong, which is named.
    """
    base = _base(fps)
    title, events = path.stem, []
    text = read_text(path, "edit decision list", "choose a text file")
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"Line {number} of {path.name}"
        line = line.strip()
        if line.startswith("TITLE:"):
            title = line.removeprefix("TITLE:").strip()
        elif line.startswith("FCM:") and "NON" not in line:
            raise ProtocolError(
                f"{where} asks for drop-frame timecode, which is not read; export it without."
            )
        elif match := _EVENT.fullmatch(line):
            _source_in, _source_out, start, end = (_frame(text, base, where) for text in match.groups()[3:])
            if end < start:
                raise ProtocolError(f"{where} ends before it begins.")
            shown = match[3].upper().startswith(("V", "B", "AA/V", "A/V")) and end > start
            events.append((start, end, {"REEL": match[2]}, shown, where))
        elif re.match(r"\d+\s", line) and ":" in line:
            raise ProtocolError(f"{where} is no event with four timecodes.")
        elif events and (match := _COMMENT.fullmatch(line)):
            events[-1][2][match[1]] = match[2]
        elif events and (match := _NAME.fullmatch(line)):
            events[-1][2]["LABEL"] = match[1]
    events = [event for event in events if event[3]]
    if not events:
        raise ProtocolError(f"{path.name} holds no video event.")
    hour = min(start for start, *_ in events) // (3600 * base) * 3600 * base
    shots: list[Placed] = []
    for start, end, said, _shown, where in events:
        codes = {shot.row.code for shot in shots}
        if "SHOT" in said:
            row = _row(said, where)
            if row.code in codes:
                raise ProtocolError(f"{where}: the shot {row.code} stands in the file already.")
        else:
            row = row_for_cut(said.get("LABEL", said["REEL"]), codes, start - hour, end - start, first_frame)
        shots.append(Placed(row, start - hour))
    return Edit(title, fps, tuple(sorted(shots, key=lambda shot: shot.start)))


def _row(said: dict[str, str], where: str) -> ShotRow:
    try:
        first, last = map(int, said["FRAMES"].split())
        take = int(said.get("TAKE", 0))
    except (KeyError, ValueError) as error:
        raise ProtocolError(
            f"{where}: the comments FRAMES and TAKE of {said['SHOT']} must be whole numbers."
        ) from error
    try:
        return ShotRow(
            said["SHOT"], said.get("NAME", ""), frame_start=first, frame_end=last,
            status=said.get("STATUS", ""), take=take, clip=said.get("CLIP", ""), match=said.get("MATCH", ""),
        )  # fmt: skip
    except ProtocolError as error:
        raise ProtocolError(f"{where}: {error}") from error


def _base(fps: float) -> int:
    """Frames that one second of timecode counts; ProtocolError if there is no exact timecode."""
    for rate, base in _RATES.items():
        if abs(fps / rate - 1) < 2e-5:  # 23.976 is near enough to 24000 / 1001
            return base
    raise ProtocolError(
        f"An EDL has no exact timecode for {fps:g} frames per second; use 23.976, 24, 25, 29.97 or 30, "
        "or write an OTIO file."
    )


def _timecode(frame: int, base: int) -> str:
    seconds, frames = divmod(frame, base)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frames:02d}"


def _frame(timecode: str, base: int, where: str) -> int:
    if ";" in timecode:
        raise ProtocolError(
            f"{where} has drop-frame timecode ({timecode}), which is not read; export it without."
        )
    hours, minutes, seconds, frames = map(int, timecode.split(":"))
    if minutes > 59 or seconds > 59 or frames >= base:
        raise ProtocolError(f"{where}: {timecode} is no timecode at {base} frames per second.")
    return ((hours * 60 + minutes) * 60 + seconds) * base + frames


def _one_line(text: str) -> str:
    return " ".join(text.split())
