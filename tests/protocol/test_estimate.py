# SPDX-License-Identifier: GPL-3.0-or-later
"""The estimate against what it is said to be measured from, and against clips of one's own."""

from pathlib import Path

import pytest

from backend.protocol import Clip, Preset
from backend.protocol.estimate import estimate

PRESETS = Path(__file__).resolve().parents[2] / "presets" / "quality"


def preset(stem):
    return Preset.load(PRESETS / f"{stem}.json")


def clip(of, frames, seconds):
    return Clip(
        frames, of.image_size, 0, of.to_record(), 1, {}, {}, duration_s={"render": seconds, "write": 0.0}
    )


@pytest.mark.parametrize(
    ("stem", "frames", "seconds", "memory_mb"),
    [
        ("embedded", 49, 19.4, 445), ("embedded_1280", 49, 66.9, 778), ("preview", 145, 14.8, 353),
        ("embedded_draft", 49, 29.8, 563), ("embedded_draft_1280", 49, 87.9, 904),
        ("embedded_teacher", 97, 54.6, 691),
    ],
)  # fmt: skip
def test_the_lines_go_through_what_was_measured(stem, frames, seconds, memory_mb):
    expected = estimate(preset(stem), frames, [])
    assert expected.seconds == pytest.approx(seconds, rel=0.1) and not expected.is_own
    assert expected.memory_mb == pytest.approx(memory_mb, rel=0.1)


def test_the_newest_clip_of_the_same_preset_counts_more():
    final, draft = preset("embedded"), preset("embedded_draft")
    finished = [clip(draft, 49, 1.0), clip(final, 81, 8.1), clip(final, 81, 81.0), clip(final, 81, 0.0)]
    expected = estimate(final, 161, finished)
    assert expected.seconds == pytest.approx(16.1) and expected.is_own
    assert expected.memory_mb == estimate(final, 161, []).memory_mb


def test_what_nobody_measured_is_unknown_until_a_clip_was_made():
    released = preset("sana_wm_draft")
    assert estimate(released, 961, []).seconds is None
    own = estimate(released, 961, [clip(released, 481, 100.0)])
    assert own.seconds == pytest.approx(961 / 4.81) and own.memory_mb is None
