# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan of the released model's memory: the published peaks, every size of card, and what does not fit."""

from dataclasses import replace
from pathlib import Path

import pytest

from backend.protocol import ProtocolError, list_presets
from backend.protocol.memory_plan import Budget, plan

PRESETS = list_presets(Path(__file__).parents[2] / "presets" / "quality")
DRAFT, FINAL = PRESETS["sana_wm_draft"], PRESETS["sana_wm_final"]
MINUTE = 961


@pytest.mark.parametrize("precision, published_gb", [("bf16", 47.3), ("fp8", 35.4), ("nvfp4", 29.4)])
def test_the_published_peaks_are_met_within_a_tenth(precision, published_gb):
    layout = plan(replace(DRAFT, precision=precision), MINUTE, Budget(79, 128))
    assert layout.together and layout.peak_gb == pytest.approx(published_gb, rel=0.1)


@pytest.mark.parametrize(
    "preset", [DRAFT, FINAL, PRESETS["sana_wm_teacher"]], ids=lambda preset: preset.variant
)
@pytest.mark.parametrize("card_gb", [80, 48, 32, 24, 16])
def test_a_minute_fits_every_card_and_what_is_faster_comes_first(preset, card_gb):
    layout = plan(preset, MINUTE, Budget(0.97 * card_gb, 64))
    assert layout.peak_gb <= 0.97 * card_gb
    assert layout.together or card_gb < 80
    assert layout.refiner_streamed or card_gb > 32
    assert not layout.spatial_tiles or not layout.together


def test_quantised_blocks_are_smaller_where_they_wait_and_where_they_visit():
    small = Budget(16, 64)
    plain, eight, four = (
        plan(replace(DRAFT, precision=name), MINUTE, small) for name in ("bf16", "fp8", "nvfp4")
    )
    assert plain.refiner_streamed and eight.refiner_streamed and four.refiner_streamed
    weights = [next(s.weights_gb for s in p.stages if s.name == "Refiner") for p in (plain, eight, four)]
    assert weights[0] > weights[1] > weights[2]
    with pytest.raises(ProtocolError, match="needs 13 GB of main memory, and 8 GB are free"):
        plan(replace(DRAFT, precision="fp8"), MINUTE, Budget(12.5, 8))
    resident = plan(replace(DRAFT, precision="nvfp4"), MINUTE, Budget(79, 128))
    of_refiner = next(stage.weights_gb for stage in resident.stages if stage.name == "Refiner")
    assert of_refiner == pytest.approx(7.25 + 0.31, abs=0.02), "12.9 G parameters in 4.5 bits, the rest in 16"


def test_without_room_in_main_memory_blocks_cannot_wait_there():
    with pytest.raises(ProtocolError, match="needs 26 GB of main memory, and 16 GB are free"):
        plan(DRAFT, MINUTE, Budget(23, 16))
    assert plan(DRAFT, MINUTE, Budget(16, 16, is_cpu=True)).refiner_streamed, "on a CPU they wait on the disk"


@pytest.mark.parametrize(
    "preset, card_gb, nearest",
    [
        (DRAFT, 11.0, "it fits with a refiner window of 5 frames, at the price of some flicker"),
        (FINAL, 12.5, "frames fits"),
        (FINAL, 3.0, "choose an Embedded preset"),
        (replace(FINAL, refiner_lora="style.safetensors"), 3.0, "choose an Embedded preset"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_nearest_setting_that_does(preset, card_gb, nearest):
    with pytest.raises(ProtocolError, match=f"needs at least .* GB, and {card_gb} GB are free .*{nearest}"):
        plan(preset, MINUTE, Budget(card_gb, 64))


def test_the_nearest_setting_really_fits():
    with pytest.raises(ProtocolError) as refused:
        plan(FINAL, MINUTE, Budget(12.5, 64))
    frames = int(str(refused.value).split("up to ")[1].split()[0])
    assert plan(FINAL, frames, Budget(12.5, 64)).peak_gb <= 12.5
    with pytest.raises(ProtocolError):
        plan(FINAL, frames + 8, Budget(12.5, 64))


def test_a_clip_of_any_length_takes_the_same_when_it_is_streamed():
    short, long = (plan(DRAFT, frames, Budget(79, 64)).peak_gb for frames in (49, MINUTE))
    assert short == pytest.approx(long)
    assert plan(FINAL, 161, Budget(79, 64)).peak_gb < plan(FINAL, MINUTE, Budget(79, 64)).peak_gb - 2


def test_time_is_told_for_cards_whose_rate_is_known():
    known, unknown = (
        plan(DRAFT, MINUTE, Budget(79, 64, name)).stages for name in ("NVIDIA H100 80GB HBM3", "X")
    )
    assert all(stage.seconds is not None for stage in known) and not any(s.seconds for s in unknown)
    refiner = next(stage for stage in known if stage.name == "Refiner")
    assert refiner.tflop == pytest.approx(13_960, rel=0.01), "as counted by hand for a minute"
