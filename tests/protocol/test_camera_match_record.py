# SPDX-License-Identifier: GPL-3.0-or-later
"""What `clip.json` says of a clip's camera, and how it is put to a person."""

import json
from dataclasses import replace

import numpy as np
import pytest

from backend.protocol import CameraMatch, Clip, ProtocolError

SECOND = 16


def curve(value: float, frames: int = 3 * SECOND) -> list[float]:
    return [value] * frames


def good(frames: int = 3 * SECOND, **changes) -> CameraMatch:
    values = {
        "path_length_m": 10.0,
        "lag_s": 0.0,
        "path_scale": 1.0,
        "turn_scale": 1.0,
        "focal_scale": 1.0,
        "heading_deg": curve(0.3, frames),
        "position_m": curve(0.0512, frames),
        "position_scaled_m": curve(0.0498, frames),
        "slide_px": curve(2.34, frames),
        "kept": curve(0.912, frames),
        "sharpness": curve(1.003, frames),
        "matches_until_s": frames / SECOND,
        "softer": 0.02,
        "estimated": [[-0.12345] * 12] * frames,
    }
    return CameraMatch(**{**values, **changes})


def clip(match: CameraMatch | None) -> Clip:
    return Clip(48, (1280, 704), 0, {}, 0, {}, {}, match=match)


def raised(values: list[float], at: slice, to: float | None) -> list[float | None]:
    changed = list(values)
    changed[at] = [to] * len(changed[at])
    return changed


def test_a_minute_is_kept_whole_in_a_small_file(tmp_path):
    path = tmp_path / "clip.json"
    match = good(961, heading_deg=raised(curve(0.3, 961), slice(900, 961), None), lost_from_s=56.25)
    clip(match).save(path)
    assert Clip.load(path) == clip(match)
    assert path.stat().st_size < 400_000


def test_clips_without_a_match_are_read(tmp_path):
    path = tmp_path / "clip.json"
    clip(None).save(path)
    record = json.loads(path.read_text())
    del record["match"]
    path.write_text(json.dumps(record))
    assert Clip.load(path).match is None


@pytest.mark.parametrize(
    "damage",
    [
        {"slide_px": [0.1]},
        {"kept": None},
        {"lag_s": "late"},
        {"estimated": [[0.0] * 11] * 48},
        {"sharpness": [float("nan")] * 48},
        {"path_length_m": None},
        {"unmeasured": 3},
        {"colour": "red"},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_damaged_matches_are_refused_with_their_entry_named(damage):
    with pytest.raises(ProtocolError, match=next(iter(damage))):
        CameraMatch.from_record({**good().to_record(), **damage})


def test_estimated_poses_are_matrices_and_nan_where_lost():
    rows = [1, 0, 0, 5, 0, 1, 0, 6, 0, 0, 1, 7]
    c2w = good(
        heading_deg=raised(curve(0.3), slice(1, 48), None), estimated=[rows, *[None] * 47]
    ).estimated_c2w
    np.testing.assert_array_equal(c2w[0], [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    assert c2w.shape == (48, 4, 4) and np.isnan(c2w[1:]).all()


@pytest.mark.parametrize(
    "name, entry, steps",
    [
        ("Heading", "heading_deg", ((0.9, "good"), (1.1, "look"), (3.9, "look"), (4.1, "bad"))),
        ("Moves", "path_scale", ((0.96, "good"), (1.04, "good"), (0.9, "look"), (1.2, "bad"))),
        ("Position", "position_scaled_m", ((0.19, "good"), (0.21, "look"), (0.81, "bad"))),
        ("Timing", "lag_s", ((0.09, "good"), (-0.2, "look"), (0.31, "bad"))),
        ("Set", "slide_px", ((4.9, "good"), (5.1, "look"), (25.1, "bad"))),
        ("Picture", "softer", ((-0.5, "good"), (0.2, "look"), (0.31, "bad"))),
        ("Lens", "focal_scale", ((1.02, "good"), (0.95, "look"), (1.1, "bad"))),
    ],
)
def test_every_number_is_judged_for_itself_and_the_worst_is_the_verdict(name, entry, steps):
    for value, verdict in steps:
        is_curve = isinstance(getattr(good(), entry), list)
        changed = raised(getattr(good(), entry), slice(20, 21), value) if is_curve else value
        match = replace(good(), **{entry: changed})
        by_name = {number.name: number.verdict for number in match.judged()}
        assert by_name.pop(name) == verdict, value
        assert set(by_name.values()) == {"good"}
        assert match.verdict() == verdict


def test_seconds_are_judged_one_by_one():
    assert good(40).per_second() == ["good"] * 3
    match = good(
        heading_deg=raised(curve(0.3), slice(5, 6), 2.0), slide_px=raised(curve(1.0), slice(40, 41), 30.0)
    )
    assert match.per_second() == ["look", "good", "bad"]
    assert good(kept=raised(curve(0.9), slice(16, 32), 0.2)).per_second() == ["good", "bad", "good"]
    lost = raised(curve(0.3), slice(20, 48), None)
    assert good(heading_deg=lost, lost_from_s=1.25).per_second() == ["good", "bad", "bad"]
    for_a_moment = raised(curve(0.3), slice(20, 22), None)
    assert good(heading_deg=for_a_moment).per_second() == ["good", "look", "good"]


def test_one_sentence_says_what_matters():
    assert good().in_words() == "Follows the camera: heading within 0.3°, moves at 100 %."
    still = good(path_scale=0.01, turn_scale=0.02, heading_deg=curve(9.0))
    assert still.in_words() == "Does not follow the camera: the picture stands still."
    turned = good(heading_deg=raised(curve(0.3), slice(20, 21), 4.5), slide_px=curve(80.0))
    assert turned.in_words() == "Does not follow the camera: heading off by up to 4.5° at 0:01."
    assert good(path_scale=0.9).in_words() == "Nearly follows the camera: moves at 90 % of the path."
    nowhere = CameraMatch(unmeasured="The shot has no blockout.")
    assert (
        nowhere.in_words() == "Not measured: The shot has no blockout." and nowhere.verdict() == "unmeasured"
    )
