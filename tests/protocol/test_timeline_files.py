# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits through OTIO and EDL files and back, and as other programs write them."""

import json
import re
from dataclasses import asdict, replace

import pytest

from backend.protocol import ProtocolError
from backend.protocol.shot_list import ShotRow
from backend.protocol.timeline_edit import Edit, Placed
from backend.protocol.timeline_edl import read_edl, write_edl
from backend.protocol.timeline_otio import read_otio, write_otio

NTSC = 24000 / 1001
MADE = ShotRow(
    "010_0030", "The gate", "Camera", 101, 148, 'A "gate",\nat dawn', "blur", "//gate.png", "preview", 7, 3,
    "done", 2, "/jobs/010_0030-v002/a clip.mp4", "97 %",
)  # fmt: skip
MADE_RECORD = asdict(MADE)
WAITING = ShotRow("010_0040", frame_start=161, frame_end=161)
FAILED = ShotRow("010_0050", frame_start=-5, frame_end=90000, status="failed", clip="C:\\jobs\\x.mp4")


def edit(fps=24.0) -> Edit:
    return Edit("Reel 1", fps, (Placed(MADE, 12), Placed(WAITING, 60), Placed(FAILED, 100)))


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, NTSC, 16.0])
def test_otio_brings_everything_back(fps, tmp_path):
    file = tmp_path / "reel.otio"
    write_otio(file, edit(fps))
    assert read_otio(file) == (edit(fps), [])


def test_opentimelineio_reads_what_is_written(tmp_path):
    otio = pytest.importorskip("opentimelineio", reason="opentimelineio is not installed here")
    file = tmp_path / "reel.otio"
    write_otio(file, edit(NTSC))
    timeline = otio.adapters.read_from_file(str(file))
    assert timeline.name == "Reel 1" and timeline.duration().value == 100 + 90006
    clips = list(timeline.find_clips())
    ranges = [clip.range_in_parent() for clip in clips]
    assert [(r.start_time.value, r.duration.value) for r in ranges] == [(12, 48), (60, 1), (100, 90006)]
    assert {r.start_time.rate for r in ranges} == {NTSC}
    assert [clip.name for clip in clips] == ["010_0030", "010_0040", "010_0050"]
    assert clips[0].media_reference.target_url == "file:///jobs/010_0030-v002/a%20clip.mp4"
    assert clips[1].media_reference.is_missing_reference
    assert clips[2].media_reference.target_url == "file:///C:/jobs/x.mp4"
    assert [(m.name, m.color) for m in clips[0].markers] == [("done, take 2, match 97 %", "GREEN")]
    assert clips[0].metadata["sana_wm"]["prompt"] == MADE.prompt
    # And what it writes again, in today's schemas, is still ours.
    again = tmp_path / "again.otio"
    otio.adapters.write_to_file(timeline, str(again))
    assert read_otio(again) == (edit(NTSC), [])


def cut(name, value, rate=25.0, schema="Clip.2", **extra):
    time = {"OTIO_SCHEMA": "RationalTime.1", "rate": rate}
    source_range = {"start_time": time | {"value": 1000}, "duration": time | {"value": value}}
    return {"OTIO_SCHEMA": schema, "name": name, "metadata": {}, "source_range": source_range} | extra


def otio_file(tmp_path, *tracks):
    file = tmp_path / "cut.otio"
    children = [{"OTIO_SCHEMA": "Track.1", "kind": kind, "children": items} for kind, items in tracks]
    file.write_text(json.dumps({"OTIO_SCHEMA": "Timeline.1", "name": "", "tracks": {"children": children}}))
    return file


def test_cuts_and_names_of_another_program(tmp_path):
    unnamed = cut("", 4)
    held = unnamed.pop("source_range")
    unnamed |= {"active_media_reference_key": "X", "media_references": {"X": {"available_range": held}}}
    file = otio_file(
        tmp_path,
        ("Audio", [cut("Music", 900)]),
        ("Video", [
            cut("", 10, schema="Gap.1"), cut("Sh 010/wide", 30), {"OTIO_SCHEMA": "Transition.1"},
            cut("Sh 010/wide", 16, rate=16.0), cut("Nested", 5, schema="Stack.1"), unnamed,
        ]),
        ("Video", [cut("Title", 9)]),
    )  # fmt: skip
    read, findings = read_otio(file, first_frame=1001)
    assert (read.name, read.fps) == ("cut", 25.0)
    assert [(s.start, s.row.code, s.row.name, s.row.frame_start, s.row.frame_end) for s in read.shots] == [
        (10, "Sh_010_wide", "Sh 010/wide", 1011, 1040),
        (40, "Sh_010_wide_2", "Sh 010/wide", 1041, 1065),
        (70, "shot", "", 1071, 1074),
    ]
    said = " ".join(finding.message for finding in findings)
    assert "2 video tracks" in said and "Nested is no clip" in said and len(findings) == 2


def test_what_is_no_usable_timeline_is_refused(tmp_path):
    file = tmp_path / "cut.otio"
    for text, said in (
        ("{", "not readable JSON"),
        ("[]", "not an OpenTimelineIO"),
        ('{"OTIO_SCHEMA": "Clip.1"}', "not an"),
    ):
        file.write_text(text)
        with pytest.raises(ProtocolError, match=said):
            read_otio(file)
    for items, said in (
        ([], "no video track with clips"),
        ([cut("A", "x")], "without a usable duration"),
        ([cut("A", 5) | {"source_range": None}], "A has no length"),
        ([cut("A", 5) | {"metadata": {"sana_wm": {"code": "a", "frame_start": "1"}}}], "'A': frame_start"),
        ([cut("A", 5) | {"metadata": {"sana_wm": MADE_RECORD | {"seed": "7"}}}], "'A': seed must be a whole"),
        ([cut("A", 5) | {"metadata": {"sana_wm": {"frame_start": 1, "frame_end": 2}}}], "'A' lacks: code"),
    ):
        with pytest.raises(ProtocolError, match=said):
            read_otio(otio_file(tmp_path, ("Video", items)))


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0, NTSC, 23.976, 29.97])
def test_edl_brings_back_shots_ranges_and_outcomes(fps, tmp_path):
    file = tmp_path / "reel.edl"
    write_edl(file, edit(fps))
    kept = replace(
        MADE, camera="", prompt="", negative_prompt="", first_frame="", preset="", seed=None, takes=None
    )
    assert read_edl(file, fps) == Edit(
        "Reel 1", fps, (Placed(kept, 12), Placed(WAITING, 60), Placed(FAILED, 100))
    )


def test_an_edl_names_the_takes(tmp_path):
    file = tmp_path / "reel.edl"
    write_edl(file, edit())
    names = [line for line in file.read_text().splitlines() if line.startswith("* FROM CLIP NAME")]
    assert names == [f"* FROM CLIP NAME: {name}" for name in ("010_0030-v002", "010_0040", "010_0050")]


@pytest.mark.parametrize(
    ("fps", "out"),
    [(24.0, "00:01:02:12"), (NTSC, "00:01:02:12"), (25.0, "00:01:00:00"), (30.0, "00:00:50:00")],
)
def test_timecodes_are_exact(fps, out, tmp_path):
    file = tmp_path / "reel.edl"
    rows = [ShotRow("a", frame_start=1, frame_end=1500), ShotRow("b", frame_start=1, frame_end=1)]
    write_edl(file, Edit.one_after_another("R", fps, rows))
    lines = file.read_text().splitlines()
    events = [line for line in lines if line[:3].isdigit()]
    begins = "01" + out[2:]
    assert events[0] == f"001  AX       V     C        00:00:00:00 {out} 01:00:00:00 {begins}"
    assert events[1].startswith(f"002  AX       V     C        00:00:00:00 00:00:00:01 {begins} ")
    assert "FCM: NON-DROP FRAME" in lines and all(len(line) < 81 for line in lines)


def test_the_cuts_of_another_edl(tmp_path):
    file = tmp_path / "cut.edl"
    file.write_text(
        "TITLE: Storyboard\nFCM: NON-DROP FRAME\n\n"
        "001  BOARD1   V     C        00:00:04:00 00:00:05:00 10:00:00:00 10:00:01:00\n"
        "* FROM CLIP NAME: sh 010.mov\n"
        "002  AX       A     C        00:00:00:00 00:00:09:00 10:00:00:00 10:00:09:00\n"
        "003  BOARD1   V     C        00:00:00:00 00:00:00:00 10:00:01:00 10:00:01:00\n"
        "003  BOARD2   V     D    012 00:00:00:00 00:00:02:00 10:00:01:00 10:00:03:00\n"
    )
    read = read_edl(file, 24)
    assert read.name == "Storyboard"
    assert [(s.start, s.row.code, s.row.frame_start, s.row.frame_end) for s in read.shots] == [
        (0, "sh_010_mov", 1, 24),
        (24, "BOARD2", 25, 72),
    ]


EVENT = "001  AX  V  C  00:00:00:00 00:00:01:00 01:00:00:00 01:00:01:00"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no video event"),
        (f"{EVENT}\n{EVENT[:-12]}\n", "Line 2 of cut.edl is no event"),
        (EVENT.replace("01:00:01:00", "01:00:01:24"), "Line 1 .* 01:00:01:24 is no timecode at 24"),
        (EVENT.replace("01:00:01:00", "00:59:00:00"), "Line 1 of cut.edl ends before"),
        (EVENT.replace("01:00:01:00", "01:00:01;00"), "drop-frame"),
        (f"FCM: DROP FRAME\n{EVENT}", "Line 1 .* drop-frame"),
        (f"{EVENT}\n* SANA_WM SHOT: a\n", "Line 1 .* FRAMES"),
        (f"{EVENT}\n* SANA_WM SHOT: a-b\n* SANA_WM FRAMES: 1 24\n", "Line 1 .* letters, digits"),
    ],
)
def test_a_bad_line_of_an_edl_is_named(text, said, tmp_path):
    file = tmp_path / "cut.edl"
    file.write_text(text)
    with pytest.raises(ProtocolError, match=said):
        read_edl(file, 24)


@pytest.mark.parametrize(
    ("fps", "rows", "said"),
    [
        (16.0, [WAITING], "no exact timecode for 16"),
        (60.0, [WAITING], "no exact timecode for 60"),
        (24.0, [replace(WAITING, code=f"s{i}") for i in range(1000)], "999 shots, not 1000"),
        (24.0, [ShotRow("long", frame_start=0, frame_end=24 * 3600 * 23)], "24 hours"),
        (24.0, [ShotRow("a")], "a has no frame range"),
    ],
)
def test_what_an_edl_cannot_hold_is_refused(fps, rows, said, tmp_path):
    with pytest.raises(ProtocolError, match=said):
        write_edl(tmp_path / "reel.edl", Edit.one_after_another("R", fps, rows))
    assert not (tmp_path / "reel.edl").exists()


def test_shots_keep_their_places_or_follow_each_other():
    rows = [ShotRow("b", frame_start=61, frame_end=70), ShotRow("a", frame_start=11, frame_end=30)]
    assert [s.start for s in Edit.one_after_another("R", 24, rows).shots] == [0, 10]
    assert [(s.row.code, s.start) for s in Edit.as_filmed("R", 24, rows).shots] == [("a", 0), ("b", 50)]
    with pytest.raises(ProtocolError, match=re.escape("b begins before the end of a")):
        Edit.as_filmed("R", 24, [*rows[1:], ShotRow("b", frame_start=30, frame_end=40)])
