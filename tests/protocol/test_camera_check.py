# SPDX-License-Identifier: GPL-3.0-or-later
"""What the check of a camera path measures, and what it thinks of it."""

import math

import numpy as np
import pytest

from backend.protocol import CameraPath
from backend.protocol.camera_check import CUTS, LENS, ROLL, SPEED, TURN, CameraCheck, roll_deg

SIZE = (1280, 704)
# A level camera that looks along +y, OpenCV axes in a world with z up.
LEVEL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def path(places, rotations=LEVEL, fov_deg=60.0) -> CameraPath:
    places = np.asarray(places, dtype=float)
    c2w = np.tile(np.eye(4), (len(places), 1, 1))
    c2w[:, :3, :3], c2w[:, :3, 3] = rotations, places
    focal = SIZE[0] / 2 / np.tan(np.radians(np.broadcast_to(fov_deg, len(places))) / 2)
    centre = np.ones_like(focal)
    return CameraPath(c2w, np.column_stack([focal, focal, centre * 640, centre * 352]), SIZE)


def along_x(steps_m):
    x = np.concatenate([[0.0], np.cumsum(steps_m)])
    return np.column_stack([x, 0 * x, 0 * x])


def judged(check):
    return {number.name: number for number in check.judged()}


def test_speed_is_that_of_the_faster_side_and_its_moment_is_named():
    steps = np.full(32, 0.02)
    steps[20] = 0.04
    check = CameraCheck.of(path(along_x(steps)), SIZE)
    np.testing.assert_allclose(np.delete(check.speed_m_s, [20, 21]), 0.32)
    np.testing.assert_allclose(check.speed_m_s[[20, 21]], 0.64)
    assert check.distance_m == pytest.approx(31 * 0.02 + 0.04)
    speed = judged(check)[SPEED]
    assert (speed.verdict, speed.at_s) == ("look", 20 / 16)
    assert speed.words == "0.64 m/s, fast: gentle is 0.40 m/s"
    assert check.needed_slowdown == pytest.approx(1.6) and check.needed_scale == pytest.approx(1 / 1.6)
    assert [i for i, verdict in enumerate(check.verdicts()) if verdict != "good"] == [20, 21]


@pytest.mark.parametrize(
    ("m_s", "verdict"), [(0.0, "good"), (0.4, "good"), (0.5, "look"), (0.8, "look"), (0.9, "bad")]
)
def test_the_gentle_range_and_twice_it(m_s, verdict):
    check = CameraCheck.of(path(along_x(np.full(16, m_s / 16))), SIZE)
    assert judged(check)[SPEED].verdict == verdict and set(check.verdicts()) == {verdict}


def test_turning_decides_the_slowdown_where_it_is_the_worse():
    angle = np.radians(np.arange(17) * 1.8)
    turns = np.array(
        [[[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]] for a in angle]
    )
    check = CameraCheck.of(path(along_x(np.full(16, 0.03)), turns @ LEVEL), SIZE)
    assert judged(check)[TURN].words == "28.8°/s, too fast: gentle is 9.6°/s"
    assert check.needed_slowdown == pytest.approx(3.0)
    assert judged(check)[ROLL].words == "level"


@pytest.mark.parametrize("lean_deg", [-30.0, -3.0, 0.0, 12.0])
@pytest.mark.parametrize("tilt_deg", [-50.0, 0.0, 70.0])
def test_roll_is_about_the_line_of_sight_whatever_the_tilt(lean_deg, tilt_deg):
    tilt, lean = math.radians(tilt_deg), math.radians(lean_deg)
    tilted = LEVEL @ np.array(
        [[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]]
    )
    # To the right: the camera's x axis, seen in its picture, turns towards its y axis, which points down.
    leaning = tilted @ np.array(
        [[math.cos(lean), -math.sin(lean), 0], [math.sin(lean), math.cos(lean), 0], [0, 0, 1]]
    )
    camera = path(np.zeros((9, 3)), leaning)
    np.testing.assert_allclose(roll_deg(camera), lean_deg, atol=1e-6)
    roll = judged(CameraCheck.of(camera, SIZE))[ROLL]
    assert roll.verdict == ("look" if abs(lean_deg) > 5 else "good")
    side = "right" if lean_deg > 0 else "left"
    assert roll.words == (f"up to {abs(lean_deg):.0f}° to the {side}" if lean_deg else "level")


def test_straight_down_has_no_roll():
    down = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    check = CameraCheck.of(path(np.zeros((9, 3)), down), SIZE)
    assert np.isnan(check.roll_deg).all() and judged(check)[ROLL].words == "level"


def test_cuts_are_all_named_and_their_jumps_are_no_speed():
    steps = np.full(48, 0.02)
    steps[[9, 30]] = 5.0
    check = CameraCheck.of(path(along_x(steps)), SIZE)
    assert check.cuts == [10, 31]
    assert check.speed_m_s.max() == pytest.approx(0.32) and check.distance_m == pytest.approx(46 * 0.02)
    assert (judged(check)[CUTS].verdict, judged(check)[CUTS].at_s) == ("bad", 10 / 16)
    assert [i for i, verdict in enumerate(check.verdicts()) if verdict == "bad"] == [10, 31]


def test_the_field_of_view_is_that_of_the_cut_picture():
    zoom = CameraCheck.of(path(np.zeros((17, 3)), fov_deg=np.linspace(60, 20, 17)), SIZE)
    assert judged(zoom)[LENS].words == "20° to 60°, not 25° to 120°"
    assert judged(zoom)[LENS].at_s * 16 == np.flatnonzero(np.linspace(60, 20, 17) < 25)[0]
    # Cut to half its width, a picture of 60 degrees shows 32.
    narrow = CameraCheck.of(path(np.zeros((9, 3))), (640, 704))
    np.testing.assert_allclose(narrow.fov_deg, math.degrees(2 * math.atan(math.tan(math.radians(30)) / 2)))


def test_one_sample_stands_still():
    check = CameraCheck.of(path([[0, 0, 0]]), SIZE)
    assert check.needed_slowdown == 1 and {number.verdict for number in check.judged()} == {"good"}
