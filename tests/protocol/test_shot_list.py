# SPDX-License-Identifier: GPL-3.0-or-later
"""Shot lists as spreadsheets write them, and as people mistype them."""

import pytest

from backend.protocol import ProtocolError
from backend.protocol.shot_list import ShotRow, read_shot_list, write_shot_list


def read(tmp_path, text: str, encoding="utf-8"):
    file = tmp_path / "shots.csv"
    file.write_bytes(text.encode(encoding))
    return read_shot_list(file)


def test_every_value_comes_back_as_it_was_written(tmp_path):
    rows = [
        ShotRow(
            "010_0030", "The gate", "Cam; A", -12, 240, ' A "big" gate,\nat dawn;\r\nfog \r', "blur, text",
            "//frames/gate.png", "preview", 2**32 - 1, 5, "done", 2, "C:\\clips\\010_0030-v002.mp4", "97 %",
        ),
        ShotRow("010_0040"),
    ]  # fmt: skip
    file = tmp_path / "shots.csv"
    write_shot_list(file, rows)
    assert read_shot_list(file) == (rows, [])
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")  # else Excel mistakes every umlaut
    assert [row.version_name for row in rows] == ["010_0030-v002", "010_0040"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_newlines_and_byte_order_marks(tmp_path, separator, newline, encoding):
    lines = [
        "Shot|Start|Frame End|Prompt",
        '010_0030|101|148.0|"Über|dem\nFluss"',
        "|||",
        "010_0040|149|180|Weg",
    ]
    text = newline.join(lines).replace("|", separator)
    rows, findings = read(tmp_path, text, encoding)
    assert findings == []
    assert rows == [
        ShotRow("010_0030", frame_start=101, frame_end=148, prompt=f"Über{separator}dem\nFluss"),
        ShotRow("010_0040", frame_start=149, frame_end=180, prompt="Weg"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (",1,2,0,", "the code ''"),
        ("10-20,1,2,0,", "the code '10-20'"),
        ("010_0010,1,2,0,", "stands in line 2 already"),
        ("b,one,2,0,", "frame_start must be a whole number, not 'one'"),
        ("b,1.5,2,0,", "frame_start must be a whole number, not '1.5'"),
        ("b,1,inf,0,", "frame_end must be a whole number, not 'inf'"),
        ("b,9,2,0,", "ends at 2, before it starts at 9"),
        ("b,9,,0,", "give both"),
        ("b,1,2,-1,", "seed must lie between"),
        ("b,1,2,0,fog, and rain", "6 cells for 5 columns"),
        ('b,1,2,0,"fog', "quotation marks"),
        ('b,1,2,0,"fog" bank', "quotation marks"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_leaves_the_others(tmp_path, line, said):
    text = f'code,start,end,seed,prompt\n010_0010,1,24,0,"two\nlines"\n{line}\n010_0020,25,48,7,fog\n'
    rows, findings = read(tmp_path, text)
    assert [row.code for row in rows] == ["010_0010", "010_0020"]
    assert len(findings) == 1 and findings[0].is_error
    assert findings[0].message.startswith("Line 4 of shots.csv") and said in findings[0].message


def test_columns_nobody_knows_are_named_once(tmp_path):
    rows, findings = read(tmp_path, "code,Director,Notes\na,Ann,x\nb,Ben,y\n")
    assert rows == [ShotRow("a"), ShotRow("b")]
    assert [(f.is_error, f.message) for f in findings] == [
        (False, "shots.csv has columns that are not read: Director, Notes.")
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "row of column names"),
        (b"010_0030,1,2\n", "row of column names"),
        (b"code,shot\na,b\n", "more than one column code"),
        ("code\nü".encode("latin-1"), "not UTF-8"),
        (None, "missing"),
    ],
)
def test_what_is_no_shot_list_is_refused(tmp_path, data, said):
    file = tmp_path / "shots.csv"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(ProtocolError, match=said):
        read_shot_list(file)
