# SPDX-License-Identifier: GPL-3.0-or-later
"""Blockout guidance: where it acts, where it does not, and the state that it draws to."""

import pytest
import torch

from backend.protocol import Preset, ProtocolError
from backend.sampling import chunk_flow_euler, flow_euler, self_forcing
from backend.sampling.blockout_guidance import SEEN_SHARE, BlockoutGuidance, seen_cells
from backend.sampling.chunk_grid import chunk_grid
from tests.stage1_reference import randn

SHAPE = (1, 5, 8, 3, 7)
SIGMAS = [1.0, 0.93, 0.8, 0.4, 0.0]
CHUNKS = chunk_grid(SHAPE[2])
NOISE, FIRST, PREVIEW = randn(SHAPE, 1), randn((1, 5, 1, 3, 7), 2), randn(SHAPE, 3)
SEEN = randn((1, 1, *SHAPE[2:]), 4) > 0
ALL = torch.ones_like(SEEN)
STATES = "plain", "teacher", "student"


class Model:
    """A velocity that depends on the state, but on nothing beside a cell; and the states that were asked about."""

    def __init__(self):
        self.asked = []

    def __call__(self, latents, timesteps, *_):
        self.asked.append((latents.clone(), timesteps[0, 0] / 1000))
        return (3 * latents).sin() + timesteps[..., None, None] / 1000

    velocity = __call__

    def remember(self, latents, chunk):
        pass


def guidance(strength, end=0.0, seen=SEEN, preview=PREVIEW):
    return BlockoutGuidance(lambda frames: (preview[:, :, frames], seen[:, :, frames]), strength, end)


def sampled(sampler, guided=None, noise=NOISE, model=None):
    model, arguments = model or Model(), (FIRST, SIGMAS)
    if sampler == "plain":
        return flow_euler.sample(model, noise, *arguments, guidance=guided)
    if sampler == "teacher":
        run = chunk_flow_euler.sample(model, noise, *arguments, CHUNKS, guidance=guided)
    else:
        run = self_forcing.sample(
            model, lambda chunk: noise[:, :, chunk].clone(), *arguments, CHUNKS, guidance=guided
        )
    return torch.cat(list(run), dim=2)


@pytest.mark.parametrize("sampler", STATES)
def test_off_is_bit_identical_to_sampling_without_guidance(sampler):
    without = sampled(sampler)
    assert torch.equal(sampled(sampler, guidance(0.0)), without), "strength 0"
    assert torch.equal(sampled(sampler, guidance(1.0, seen=~ALL)), without), "nothing is seen"
    assert torch.equal(sampled(sampler, guidance(1.0, end=0.94)), without), "no step ends so high"
    assert not torch.equal(sampled(sampler, guidance(0.3)), without)


@pytest.mark.parametrize("sampler", STATES)
def test_full_guidance_to_the_end_gives_the_preview_whatever_the_model_says(sampler):
    out = sampled(sampler, guidance(1.0, seen=ALL))
    assert torch.equal(out[:, :, 1:], PREVIEW[:, :, 1:])
    assert torch.equal(out[:, :, :1], FIRST), "the given frame stays"


@pytest.mark.parametrize("sampler", STATES)
def test_cells_that_are_not_seen_are_left_to_the_model_bit_for_bit(sampler):
    """The model looks at single cells here, so that its own sampling is known there."""
    own, out = sampled(sampler), sampled(sampler, guidance(1.0))
    unseen = (~SEEN).expand_as(out)
    assert torch.equal(out[unseen], own[unseen])
    behind = SEEN.expand_as(out).clone()
    behind[:, :, 0] = False
    assert torch.equal(out[behind], PREVIEW[behind])


@pytest.mark.parametrize("sampler", STATES)
@pytest.mark.parametrize("strength", [0.3, 0.8, 1.0])
def test_every_state_at_or_above_the_end_is_moved_by_the_strength_with_the_start_noise(sampler, strength):
    """The samplers written out again, chunk by chunk, in double precision."""
    end, model = 0.8, Model()
    out = sampled(sampler, guidance(strength, end)).double()
    noise, preview = NOISE.double(), PREVIEW.double()
    expected = noise.clone()
    expected[:, :, :1] = FIRST
    for before, after in zip(SIGMAS, SIGMAS[1:], strict=False):
        levels = torch.full((1, 1, SHAPE[2]), 1000 * before, dtype=torch.float64)
        moved = expected + (after - before) * model(expected, levels)
        target = (1 - after) * preview + after * noise
        drawn = (1 - strength) * moved + strength * target
        moved = torch.where(SEEN, drawn, moved) if after >= end else moved
        expected[:, :, 1:] = moved[:, :, 1:]
    error = (out - expected).abs().max().item()
    assert error < 1e-5, f"{sampler} at {strength}: latents differ by {error:.2e}"
    other = sampled(sampler, guidance(strength, end), noise=randn(SHAPE, 9)).double()
    assert (other - expected).abs().max() > 0.1, "another noise would not be noticed"


@pytest.mark.parametrize("sampler", STATES)
def test_the_model_is_asked_about_the_preview_under_the_start_noise(sampler):
    """Fails if the noise in the target were drawn anew: the states of a seen cell lie on one straight line."""
    model = Model()
    sampled(sampler, guidance(1.0, seen=ALL), model=model)
    checked = 0
    for latents, sigma in model.asked:
        starts = [0] if sampler != "student" else [chunk.start for chunk in CHUNKS]
        places = [slice(start, start + latents.shape[2]) for start in starts]
        level = sigma[:, None, None]
        errors = [
            ((1 - level) * PREVIEW[:, :, p] + level * NOISE[:, :, p] - latents)[:, :, 1:].abs().max()
            for p in places
            if p.stop <= SHAPE[2]
        ]
        assert min(errors) < 1e-5
        checked += 1
    assert checked >= 4


def test_a_finished_chunk_is_not_drawn_again_while_later_ones_are_sampled():
    kept = {}
    guided, noise = guidance(0.5, seen=ALL), NOISE

    def velocity(latents, timesteps, count):
        if timesteps[0, 0, CHUNKS[0].stop - 1] == 0:
            kept.setdefault("finished", latents[:, :, CHUNKS[0]].clone())
            kept["last"] = latents[:, :, CHUNKS[0]].clone()
        return Model()(latents, timesteps)

    first, *_ = chunk_flow_euler.sample(velocity, noise, FIRST, SIGMAS, CHUNKS, guidance=guided)
    assert torch.equal(kept["finished"], first) and torch.equal(kept["last"], first)


def test_the_student_asks_for_the_preview_of_its_own_chunk_alone():
    asked = []

    def preview(frames):
        asked.append(frames)
        return PREVIEW[:, :, frames], SEEN[:, :, frames]

    sampled("student", BlockoutGuidance(preview, 1.0, 0.5))
    assert asked == [chunk for chunk in CHUNKS for level in SIGMAS[1:] if level >= 0.5]


def test_half_precision_latents_are_drawn_in_single_precision():
    noise, state = NOISE.bfloat16(), randn(SHAPE, 5).bfloat16()
    drawn = guidance(0.3).drawn(state, noise, torch.full((SHAPE[2],), 0.8), slice(0, SHAPE[2]))
    expected = state.float() + 0.3 * (0.2 * PREVIEW + 0.8 * noise.float() - state.float())
    seen = SEEN.expand_as(state)[:, :, 1:]
    assert drawn.dtype == torch.bfloat16
    torch.testing.assert_close(
        drawn[:, :, 1:][seen], expected.bfloat16()[:, :, 1:][seen], atol=0.01, rtol=0.01
    )
    assert torch.equal(drawn[:, :, 1:][~seen], state[:, :, 1:][~seen])


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
@pytest.mark.parametrize(("patch", "grid"), [(8, (3, 5)), (32, (2, 3))])
def test_a_cell_is_seen_if_enough_of_all_that_it_stands_for_is_seen(patch, grid, share):
    visible = torch.ones(1 + 2 * 8, 1, patch * grid[0], patch * grid[1])
    visible[0, 0, :, :patch] = 0.45  # all cells of the first column, in the first latent's one frame
    visible[1:9, 0, -1, -patch:] = 0  # one row of a cell, in all frames of the second latent
    visible[13:, 0, :patch, :patch] = 0  # a whole cell, in four of the third latent's eight frames
    visible[16, 0, -patch:, -patch:] = 0  # another, in the last of them
    shares = torch.ones(3, *grid)
    shares[0, :, 0], shares[1, -1, -1], shares[2, 0, 0], shares[2, -1, -1] = 0.45, 1 - 1 / patch, 0.5, 7 / 8
    cells = seen_cells(visible, patch, begins=True, share=share)
    assert torch.equal(cells[0, 0], shares >= share)
    assert torch.equal(seen_cells(visible[1:], patch, begins=False, share=share), cells[:, :, 1:])
    assert torch.equal(seen_cells(visible, patch, begins=True)[0, 0], shares >= SEEN_SHARE)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"blockout_guidance": 1.2}, "blockout guidance must lie in 0..1, not 1.2"),
        ({"blockout_guidance": float("nan")}, "blockout guidance must lie in 0..1, not nan"),
        (
            {"blockout_guidance": 0.5, "blockout_guidance_end": -0.1},
            "the end of blockout guidance must lie in",
        ),
        ({"blockout_guidance": "strong"}, "blockout_guidance must be a number, not 'strong'"),
    ],
)
def test_wrong_numbers_in_a_preset_are_a_sentence(change, sentence):
    record = Preset("p", "d", "embedded", (64, 64)).to_record()
    assert record["blockout_guidance"] == record["blockout_guidance_end"] == 0, "off if nobody says otherwise"
    with pytest.raises(ProtocolError, match=sentence):
        Preset.from_record({**record, **change})
