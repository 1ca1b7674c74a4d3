# SPDX-License-Identifier: GPL-3.0-or-later
"""A room is filmed with a known camera, right or wrong; the match has to say how it differs from the planned one."""

import functools

import cv2
import numpy as np
import pytest

from backend.camera_match import match_camera
from backend.protocol import Blockout, CameraMatch, CameraPath
from tests.camera_match.filmed_room import FRAMES, SIZE, camera, degraded, film, looking, room

TIME = np.arange(FRAMES) / 32
YAW, PITCH = 8 * np.sin(2.5 * TIME), 3 * np.sin(3.1 * TIME)
PLACES = camera().c2w[:, :3, 3]


@functools.cache
def exact() -> np.ndarray:
    return film(room(), camera())


@functools.cache
def drifting() -> np.ndarray:
    """The heading drifts by 3 degrees."""
    return film(room(), looking(PLACES, YAW + np.linspace(0, 3, FRAMES), PITCH, SIZE))


def panned(frames: int) -> CameraPath:
    return looking(np.tile(PLACES[0], (frames, 1)), np.linspace(0, 10, frames), np.zeros(frames), SIZE)


def moving_box() -> tuple[Blockout, np.ndarray]:
    motion = np.tile(np.eye(4), (FRAMES, 1, 1))
    motion[:, 0, 3] = np.linspace(-1.2, 1.0, FRAMES)
    world = room(motion=motion)
    return world, film(world, camera())


def worst(curve: list) -> float:
    return max(value for value in curve if value is not None)


def position_share(match: CameraMatch) -> float:
    return worst(match.position_m) / match.path_length_m


def late_frames(frames: int) -> np.ndarray:
    return exact()[np.maximum(np.arange(FRAMES) - frames, 0)]


def test_the_planned_camera_is_found_exactly():
    match = match_camera(exact(), room(), camera(), 0)
    assert worst(match.heading_deg) <= 0.1
    assert position_share(match) <= 0.005
    assert 0.99 <= match.path_scale <= 1.01 and 0.99 <= match.turn_scale <= 1.01
    assert match.lag_s == 0 and 0.99 <= match.focal_scale <= 1.01
    assert worst(match.slide_px) < 4 and min(match.kept) > 0.8
    assert match.matches_until_s == match.duration_s and match.lost_from_s is None
    assert abs(match.softer) < 0.1 and match.revisit_db is None
    assert match.verdict() == "good" and match.per_second() == ["good"] * 3
    assert match.in_words() == "Follows the camera: heading within 0.1°, moves at 100 %."
    np.testing.assert_allclose(match.estimated_c2w, camera().c2w, atol=0.02)


def test_a_spoiled_picture_does_not_move_the_camera():
    match = match_camera(degraded(exact()), room(), camera(), 0)
    assert worst(match.heading_deg) < 0.2 and position_share(match) < 0.015
    assert 0.98 < match.path_scale < 1.02 and abs(match.lag_s) < 0.01
    assert match.matches_until_s == match.duration_s


def test_a_camera_that_goes_nine_tenths_of_the_way_is_told_by_its_scale_alone():
    match = match_camera(film(room(), camera(share=0.9)), room(), camera(), 0)
    assert match.path_scale == pytest.approx(0.9, abs=0.01)
    assert worst(match.heading_deg) < 0.1, match.heading_deg
    assert match.position_m[-1] == pytest.approx(0.2, abs=0.02), "as it is, it ends 10 % short"
    assert worst(match.position_scaled_m) < 0.005 * match.path_length_m
    assert match.lag_s == 0 and "moves at 90 % of the path" in match.in_words()


def test_a_heading_that_drifts_by_three_degrees_is_told_by_its_heading_alone():
    match = match_camera(drifting(), room(), camera(), 0)
    assert match.heading_deg[-1] == pytest.approx(3, abs=0.1)
    assert np.mean(match.heading_deg) == pytest.approx(1.5, abs=0.1)
    assert match.path_scale == pytest.approx(1, abs=0.01) and abs(match.lag_s) < 0.02
    assert position_share(match) < 0.01
    assert worst(match.slide_px) > 60 and match.verdict() == "bad"
    assert "heading off by up to 3.0°" in match.in_words()


@pytest.mark.parametrize("spoil", [np.asarray, degraded], ids=["clean", "degraded"])
def test_a_late_clip_is_told_by_its_lag_alone(spoil):
    match = match_camera(spoil(late_frames(4)), room(), camera(), 0)
    assert match.lag_s == pytest.approx(0.25, abs=0.01)
    assert worst(match.heading_deg) < 0.2 and position_share(match) < 0.015
    assert match.path_scale == pytest.approx(1, abs=0.015)
    assert "late by 0.25 s" in match.in_words()


def test_a_wider_lens_is_told():
    clip = film(room(), looking(PLACES, YAW, PITCH, SIZE, lens=1 / 1.05))
    match = match_camera(clip, room(), camera(), 0)
    assert match.focal_scale == pytest.approx(1 / 1.05, abs=0.015)
    assert match.lag_s == 0 and worst(match.heading_deg) < 0.8
    assert "lens 4 % wider" in match.in_words() or "lens 5 % wider" in match.in_words()


@pytest.mark.parametrize("pan", [False, True], ids=["walk", "pan"])
def test_a_still_picture_is_called_one(pan):
    path = panned(FRAMES) if pan else camera()
    match = match_camera(np.repeat(exact()[:1], FRAMES, axis=0), room(), path, 0)
    assert match.turn_scale < 0.02 and (match.path_scale is None if pan else match.path_scale < 0.02)
    assert match.lag_s is None and match.focal_scale is None
    assert match.verdict() == "bad"
    assert match.in_words() == "Does not follow the camera: the picture stands still."


def test_a_pan_on_the_spot_has_a_heading_and_no_scale():
    path = panned(17)
    match = match_camera(film(room(), path), room(), path, 0)
    assert match.path_scale is None and match.turn_scale == pytest.approx(1, abs=0.01)
    assert worst(match.heading_deg) < 0.1 and match.lag_s == 0
    assert match.verdict() == "good" and "moves" not in match.in_words()


def test_a_somewhat_wrong_geometry_costs_little():
    """The clip shows the room; the blockout has boxes 12 % deeper and the back wall 21 % farther away."""
    match = match_camera(degraded(exact()), room(deeper=1.12, back_m=17), camera(), 0)
    assert worst(match.heading_deg) < 0.6 and 0.97 < match.path_scale < 1.03
    assert position_share(match) < 0.04 and abs(match.lag_s) < 0.02


def test_what_moves_in_the_blockout_is_masked():
    world, clip = moving_box()
    match = match_camera(clip, world, camera(), 0)
    assert worst(match.heading_deg) < 0.1 and position_share(match) < 0.005
    assert match.verdict() == "good"


def test_a_clip_without_its_first_frame_is_matched_from_the_second_pose_on():
    match = match_camera(exact()[1:], room(), camera(), 1)
    assert match.frame_count == FRAMES - 1 and match.lag_s == 0
    assert worst(match.heading_deg) < 0.1 and position_share(match) < 0.005
    np.testing.assert_allclose(match.estimated_c2w, camera().c2w[1:], atol=0.02)


@pytest.mark.parametrize("kind", ["black", "noise"])
def test_lost_tracking_is_a_result_with_its_time(kind):
    clip = exact().copy()
    shape = clip[20:].shape
    clip[20:] = 0 if kind == "black" else np.random.default_rng(0).integers(0, 255, shape)
    match = match_camera(clip, room(), camera(), 0)
    assert match.lost_from_s == 20 / 16 and match.matches_until_s == 1
    assert match.heading_deg[20:] == [None] * (FRAMES - 20) and match.kept[20:] == [0] * (FRAMES - 20)
    assert worst(match.heading_deg) < 0.1, "what came before is not spoiled"
    assert match.per_second() == ["good", "bad", "bad"] and "from 0:01 on" in match.in_words()


def test_a_flash_is_bridged():
    clip = exact().copy()
    clip[15] = 255
    match = match_camera(clip, room(), camera(), 0)
    assert match.heading_deg[15] is None and match.heading_deg.count(None) == 1
    assert match.lost_from_s is None and worst(match.heading_deg) < 0.1
    assert match.per_second() == ["look", "good", "good"]


def test_a_clip_that_gets_soft_is_called_softer():
    soft = np.stack([cv2.GaussianBlur(frame, None, 0.05 + 0.04 * i) for i, frame in enumerate(exact())])
    match = match_camera(soft, room(), camera(), 0)
    assert match.softer > 0.2 and worst(match.heading_deg) < 0.2
    assert match.sharpness[-1] < 0.75 < match.sharpness[0]


def test_coming_back_is_compared_with_what_was_there():
    there = camera()
    c2w, intrinsics = np.concatenate([there.c2w, there.c2w[::-1]]), np.concatenate([there.intrinsics] * 2)
    path = CameraPath(c2w, intrinsics, SIZE)
    back = exact()[::-1]
    same = match_camera(np.concatenate([exact(), back]), room(), path, 0)
    other = match_camera(np.concatenate([exact(), 255 - back // 2]), room(), path, 0)
    assert same.revisit_db > 35 and 5 < other.revisit_db < 20


def test_what_cannot_be_measured_says_why():
    plain = np.full((3, *SIZE[::-1], 3), 128, np.uint8)
    up = looking(np.tile([0, 0, 9.0], (3, 1)), np.zeros(3), np.full(3, 60.0), SIZE)
    for clip, blockout, path, expected in (
        (plain, None, camera(), "no blockout"),
        (plain, Blockout.empty(), camera(), "no blockout"),
        (exact(), room(), up, "next to nothing of the blockout"),
        (plain, room(), camera(), "too little detail"),
        (exact()[:1], room(), camera(), "no second frame"),
    ):
        match = match_camera(clip, blockout, path, 0)
        assert expected in match.unmeasured, match.unmeasured
        assert match.verdict() == "unmeasured" and match.per_second() == [] and match.judged() == []


def test_frames_are_taken_one_by_one_and_an_objection_ends_the_measurement():
    taken = []

    def frames():
        for index, frame in enumerate(exact()):
            taken.append(index)
            yield frame

    def object_at_ten(count: int) -> None:
        assert taken[-1] == count - 1, "no frame is taken ahead of its turn"
        if count == 10:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        match_camera(frames(), room(), camera(), 0, object_at_ten)
    assert len(taken) == 10


def test_a_large_clip_is_measured_at_half_size_and_said_in_1080_lines():
    """Twice the pixels: the same camera, and the same slide of the same drift."""
    small = drifting()[:17]
    large = np.stack([cv2.resize(frame, None, fx=4, fy=4) for frame in small])
    path = camera().fitted_to((4 * SIZE[0], 4 * SIZE[1]))
    small_match, large_match = (
        match_camera(clip, room(), at, 0) for clip, at in ((small, camera()), (large, path))
    )
    assert large_match.heading_deg[-1] == pytest.approx(small_match.heading_deg[-1], abs=0.1)
    assert large_match.slide_px[-1] == pytest.approx(small_match.slide_px[-1], rel=0.1)
