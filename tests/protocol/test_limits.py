# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be filmed, in the words the user reads."""

import math

import numpy as np
import pytest

from backend.protocol import CameraPath, Preset, ProtocolError, frame_count_for, limits

SIZE = (1280, 720)


def path(frames: int, shift_m=0.0, turn_deg=0.0, fov_deg=60.0, size=SIZE) -> CameraPath:
    """Each of shift, turn and field of view is a number per sample or one for all."""
    shift, turn, fov = (
        np.broadcast_to(value, frames).astype(float) for value in (shift_m, turn_deg, fov_deg)
    )
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    angle = np.radians(turn)
    c2w[:, 0, 0] = c2w[:, 2, 2] = np.cos(angle)
    c2w[:, 0, 2], c2w[:, 2, 0] = np.sin(angle), -np.sin(angle)
    c2w[:, 2, 3] = shift
    focal = size[0] / 2 / np.tan(np.radians(fov) / 2)
    intrinsics = np.stack([focal, focal, np.full(frames, size[0] / 2), np.full(frames, size[1] / 2)], 1)
    return CameraPath(c2w, intrinsics, size)


def preset(variant="bidirectional") -> Preset:
    student = {"step_list": (1000, 727, 0), "guidance": 1.0} if variant == "streaming" else {}
    return Preset("Preview", "Small.", "embedded", (1280, 704), variant=variant, **student)


def messages(camera: CameraPath, is_error: bool, variant="bidirectional") -> str:
    return " ".join(f.message for f in limits.check(camera, preset(variant)) if f.is_error is is_error)


@pytest.mark.parametrize(
    ("duration_s", "variant", "frames"),
    [
        (5.0, "bidirectional", 81),
        (120 / 24, "bidirectional", 81),
        (60.0, "bidirectional", 961),
        (60.0, "streaming", 961),
        (4.99, "bidirectional", 73),
        (5.0, "streaming", 73),
        (1440 / 24000 * 1001, "bidirectional", 961),
        (0.4, "bidirectional", 1),
    ],
)
def test_frame_counts_never_reach_beyond_the_range(duration_s, variant, frames):
    assert frame_count_for(duration_s, variant) == frames
    assert (frames - 1) / 16 <= duration_s


def test_a_gentle_camera_passes_without_a_word():
    gentle = path(81, shift_m=np.arange(81) * 0.024, turn_deg=np.arange(81) * 0.5)
    assert limits.require(gentle, preset()) == []


def test_rates_are_measured_in_metres_and_degrees_a_second():
    camera = path(81, shift_m=np.arange(81) * 0.05, turn_deg=np.arange(81) * 1.2)
    np.testing.assert_allclose(limits.speed_m_s(camera), 0.8)
    np.testing.assert_allclose(limits.turn_rate_deg_s(camera), 19.2)
    assert "0.80 m/s" in messages(camera, False) and "19.2 degrees/s" in messages(camera, False)
    assert messages(camera, True) == ""


@pytest.mark.parametrize(
    ("camera", "variant", "sentence"),
    [
        (path(1), "bidirectional", "gives 1 frame at .* at least 9"),
        (path(17), "streaming", "gives 17 frames .* at least 25 [(]1.5 s[)]"),
        (path(1), "chunk_causal", "gives 1 frame at .* at least 25"),
        (path(969), "bidirectional", "at most 961"),
        (path(82), "bidirectional", r"8k \+ 1"),
        (path(81), "streaming", r"24k \+ 1"),
        (path(81, fov_deg=24.5), "bidirectional", "reaches 24.5 degrees"),
        (path(81, fov_deg=np.linspace(60, 121, 81)), "bidirectional", "reaches 121.0 degrees"),
        (
            path(81, turn_deg=np.where(np.arange(81) < 40, 0, 50)),
            "bidirectional",
            "jumps 2.50 s into the range",
        ),
        (
            path(81, shift_m=np.where(np.arange(81) < 16, 0, 4)),
            "bidirectional",
            "jumps 1.00 s into the range",
        ),
        (path(9, size=(32, 32)), "bidirectional", "at least 64x64"),
    ],
)
def test_what_the_model_cannot_film_is_an_error(camera, variant, sentence):
    with pytest.raises(ProtocolError, match=sentence):
        limits.require(camera, preset(variant))


@pytest.mark.parametrize(
    "model, precision, said",
    [
        ("sana_wm_3", "bf16", "wants the model sana_wm_3, which this version does not know"),
        ("embedded", "nvfp4", "cannot run yet in nvfp4; choose one in fp32."),
        ("embedded", "bf16", "cannot run yet in bf16; choose one in fp32."),
    ],
)
def test_a_model_that_cannot_run_is_one_sentence_that_says_what_to_choose(model, precision, said):
    chosen = Preset("Chosen", "Large.", model, (1280, 704), precision=precision)
    with pytest.raises(ProtocolError, match=said):
        limits.require(path(81), chosen)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp8", "nvfp4"])
def test_the_released_model_runs_in_every_precision(precision):
    assert limits.check_model(Preset("Chosen", "", "sana_wm", (1280, 704), precision=precision)) is None


def test_a_fast_move_is_no_cut():
    whip = path(81, turn_deg=np.cumsum(np.interp(np.arange(81), [30, 40, 50], [0, 20, 0])))
    fly = path(81, shift_m=np.arange(81) * 2.0)
    for camera in (whip, fly):
        assert messages(camera, True) == "" and "the model follows best" in messages(camera, False)


def test_losing_much_of_the_picture_or_enlarging_it_is_said():
    assert "of the camera's picture" in messages(path(81, size=(1024, 1024)), False)
    assert "enlarged from 640x360" in messages(path(81, size=(640, 360)), False)


def test_the_field_of_view_is_that_of_the_crop():
    """A wide picture cut to the clip's shape shows less than the camera's own angle."""
    wide = path(81, fov_deg=122.0, size=(2560, 1080))
    assert messages(wide, True) == ""
    half = math.degrees(math.atan(math.tan(math.radians(61)) * 1080 * 1280 / 704 / 2560))
    fitted = limits.field_of_view_deg(wide.fitted_to((1280, 704)))[0, 0]
    assert abs(fitted - 2 * half) < 0.2
