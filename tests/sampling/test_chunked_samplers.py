# SPDX-License-Identifier: GPL-3.0-or-later
"""The teacher's staircase and the student's few steps."""

import itertools

import pytest
import torch

from backend.models.stage1 import CarryPlan, Stage1Config, Stage1Transformer
from backend.sampling import chunk_flow_euler, flow_euler, self_forcing
from backend.sampling.chunk_grid import chunk_grid
from tests.stage1_reference import camera_poses, randn, randomize

SIGMAS = [step / 1000 for step in self_forcing.RELEASED_STEP_LIST]
SHAPE = (1, 8, 10, 3, 4)


class Oracle:
    """Knows the data, and takes notes."""

    def __init__(self, data, noise):
        self.data, self.noise, self.calls = data, noise, []

    def velocity(self, latents, timesteps, chunk):
        self.calls.append(("velocity", chunk.start, [round(t) for t in timesteps[0, 0].tolist()]))
        sigma = timesteps[..., None, None] / 1000
        expected = (1 - sigma) * self.data[:, :, chunk] + sigma * self.noise[:, :, chunk]
        assert torch.allclose(latents, expected, atol=1e-5)
        return (self.noise - self.data)[:, :, chunk]

    def remember(self, latents, chunk):
        self.calls.append(("remember", chunk.start))
        assert torch.allclose(latents, self.data[:, :, chunk], atol=1e-5)


@pytest.mark.parametrize(
    ("frames", "starts"),
    [(4, [0]), (7, [0, 4]), (31, [0, *range(4, 31, 3)]), (8, [0, 5]), (9, [0, 3, 6]), (6, [0, 3])],
)
def test_chunk_grid(frames, starts):
    grid = chunk_grid(frames)
    assert [chunk.start for chunk in grid] == starts
    assert [chunk.stop for chunk in grid] == [*starts[1:], frames]


def test_a_minute_has_forty_chunks_and_three_frames_have_none():
    assert len(chunk_grid(121)) == 40
    with pytest.raises(ValueError, match="3 latent frames are no more than one chunk"):
        chunk_grid(3)


def test_student_takes_four_steps_and_one_clean_look_a_chunk():
    data, noise = randn(SHAPE, 1), randn(SHAPE, 2)
    oracle = Oracle(data, noise)
    chunks = list(
        self_forcing.sample(oracle, lambda c: noise[:, :, c].clone(), data[:, :, :1], SIGMAS, chunk_grid(10))
    )
    assert [chunk.shape[2] for chunk in chunks] == [4, 3, 3]
    out = torch.cat(chunks, dim=2)
    assert torch.allclose(out, data, atol=1e-5)
    assert torch.equal(out[:, :, 0], data[:, :, 0])
    levels = self_forcing.RELEASED_STEP_LIST[:-1]
    first = [("velocity", 0, [0, level, level, level]) for level in levels]
    later = [[("velocity", start, [level] * 3) for level in levels] for start in (4, 7)]
    assert oracle.calls == [*first, ("remember", 0), *later[0], ("remember", 4), *later[1]]


def test_student_goes_on_behind_finished_chunks_and_stops_where_it_is_told():
    data, noise = randn(SHAPE, 1), randn(SHAPE, 2)
    oracle = Oracle(data, noise)

    def cancel_at(chunk, step):
        if (chunk.start, step) == (7, 2):
            raise KeyboardInterrupt

    run = self_forcing.sample(
        oracle,
        lambda c: noise[:, :, c].clone(),
        data[:, :, :1],
        SIGMAS,
        chunk_grid(10),
        finished=lambda chunk: data[:, :, chunk] if chunk.start < 7 else None,
        on_step=cancel_at,
    )
    assert torch.equal(next(run), data[:, :, :4])
    assert torch.equal(next(run), data[:, :, 4:7])
    with pytest.raises(KeyboardInterrupt):
        next(run)
    assert [call[:2] for call in oracle.calls] == [
        ("remember", 0), ("remember", 4), ("velocity", 7), ("velocity", 7),
    ]  # fmt: skip


@pytest.mark.parametrize("sigmas", [[1.0, 0.5], [0.0], [1.0, 1.0, 0.0], [0.5, 0.9, 0.0]])
def test_a_step_list_must_fall_to_zero(sigmas):
    with pytest.raises(ValueError, match="must fall to 0"):
        next(self_forcing.sample(None, None, None, sigmas, chunk_grid(4)))


def test_noise_of_a_chunk_depends_on_nothing_but_seed_and_place():
    noise = self_forcing.chunk_noise((8, 3, 4), 7, torch.float32, "cpu")
    assert noise(slice(4, 7)).shape == (1, 8, 3, 3, 4)
    assert torch.equal(noise(slice(4, 7)), noise(slice(4, 7)))
    again = self_forcing.chunk_noise((8, 3, 4), 7, torch.float32, "cpu")
    assert torch.equal(again(slice(4, 7)), noise(slice(4, 7)))
    seen = [noise(slice(start, start + 3)) for start in (0, 4, 7)]
    seen += [
        self_forcing.chunk_noise((8, 3, 4), seed, torch.float32, "cpu")(slice(4, 7))
        for seed in (8, 7 + 2**31)
    ]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(seen, 2))
    assert abs(torch.stack(seen).std().item() - 1) < 0.1


@pytest.mark.parametrize("interval_k", [None, 1.0, 0.5, 0.01])
def test_teacher_climbs_the_staircase(interval_k):
    data, noise, chunks = randn(SHAPE, 1), randn(SHAPE, 2), chunk_grid(10)
    sigmas = flow_euler.sigma_schedule(6)
    seen, steps = [], []

    def velocity(latents, timesteps, count):
        frames = chunks[count - 1].stop
        assert latents.shape[2] == timesteps.shape[2] == frames
        sigma = timesteps[..., None, None] / 1000
        expected = (1 - sigma) * data[:, :, :frames] + sigma * noise[:, :, :frames]
        assert torch.allclose(latents, expected, atol=1e-4)
        seen.append([timesteps[0, 0, chunk.stop - 1].item() for chunk in chunks[:count]])
        return (noise - data)[:, :, :frames]

    run = chunk_flow_euler.sample(
        velocity,
        noise,
        data[:, :, :1],
        sigmas,
        chunks,
        interval_k,
        lambda step, total: steps.append((step, total)),
    )
    finished = []
    for chunk in run:
        finished.append((len(seen), chunk))
    starts = chunk_flow_euler.start_steps(3, 6, interval_k)
    assert starts == {None: [0, 2, 4], 1.0: [0, 6, 12], 0.5: [0, 3, 6], 0.01: [0, 0, 0]}[interval_k]
    assert [step for step, _ in finished] == [start + 6 for start in starts]
    assert steps == [(step, starts[-1] + 6) for step in range(1, starts[-1] + 7)]
    assert torch.allclose(torch.cat([chunk for _, chunk in finished], dim=2), data, atol=1e-4)
    for step, levels in enumerate(seen):
        wanted = [1000 * sigmas[min(step - start, 6)] for start in starts if start <= step]
        assert levels == pytest.approx(wanted, abs=1e-3), f"step {step}"


def test_teacher_with_one_chunk_is_the_plain_sampler():
    noise, first = randn(SHAPE, 1), randn((1, 8, 1, 3, 4), 2)
    sigmas = flow_euler.sigma_schedule(5)

    def velocity(latents, timesteps, count=1):
        return latents.sin() + timesteps[..., None, None] / 1000

    plain = flow_euler.sample(velocity, noise, first, sigmas)
    (chunk,) = chunk_flow_euler.sample(velocity, noise, first, sigmas, [slice(0, 10)])
    assert torch.allclose(chunk, plain, atol=1e-6)


@torch.no_grad()
def test_student_on_stage_1_gives_what_the_dense_forward_would():
    """Cache and sampler together, with an unlimited window, against the same loop without any cache."""
    sizes = {
        "in_channels": 8, "out_channels": 8, "hidden_size": 48, "head_dim": 24, "num_cross_heads": 4,
        "caption_channels": 20, "num_layers": 4, "softmax_in_bf16": False,
    }  # fmt: skip
    model = Stage1Transformer(Stage1Config(**sizes)).eval()
    randomize(model, 5)
    chunks, grid = chunk_grid(10), SHAPE[2:]
    camera, plucker, text, mask = (
        camera_poses(grid),
        randn((1, 48, *grid), 3),
        randn((1, 1, 7, 20), 2),
        torch.ones(1, 7),
    )
    whole = model.condition(text, mask, camera, plucker, grid, tuple(chunk.start for chunk in chunks))
    noise, first = randn(SHAPE, 7), randn((1, 8, 1, 3, 4), 8)

    class Cached:
        carry = model.empty_carry(CarryPlan.unlimited(4, 3, 3), 1, 12)

        def place(self, chunk):
            size = (chunk.stop - chunk.start, *grid[1:])
            rows = camera[:, chunk], plucker[:, :, chunk]
            return model.condition_frames(whole.blocks, *rows, size, first_frame=chunk.start)

        def velocity(self, latents, timesteps, chunk):
            return model.denoise(latents, timesteps, self.place(chunk), self.carry)

        def remember(self, latents, chunk):
            model.denoise(
                latents, torch.zeros(1, 1, latents.shape[2]), self.place(chunk), self.carry, save=True
            )

    class Dense:
        before = randn((1, 8, 0, 3, 4), 0)

        def velocity(self, latents, timesteps, chunk):
            clean = torch.zeros(1, 1, chunk.start)
            together = torch.cat([self.before, latents], dim=2), torch.cat([clean, timesteps], dim=2)
            count = chunks.index(chunk) + 1
            return model.denoise(*together, whole.first_chunks(count))[:, :, chunk.start :]

        def remember(self, latents, chunk):
            self.before = torch.cat([self.before, latents], dim=2)

    results = [
        torch.cat(
            list(self_forcing.sample(s, lambda c: noise[:, :, c].clone(), first, SIGMAS, chunks)), dim=2
        )
        for s in (Cached(), Dense())
    ]
    error = (results[0] - results[1]).abs().max().item()
    assert error <= 1e-5, f"latents differ by {error:.2e}"
