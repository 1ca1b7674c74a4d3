# SPDX-License-Identifier: GPL-3.0-or-later
"""The sampler against diffusers' scheduler and pipeline arithmetic, and what a caller relies on."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from backend.sampling.flow_euler import guided, sample, sigma_schedule
from tests.stage1_reference import TINY, camera_poses, make_pair, pipeline_loop, randn

GRID = (3, 3, 4)
FIRST = [1.0, 0.99826109, 0.99646813, 0.99461854, 0.9927097, 0.99073857, 0.98870212, 0.986597]


@torch.no_grad()
def test_sixty_guided_steps_match_diffusers(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x)
    reference, ours = make_pair(TINY, 77, softmax_in_bf16=False)
    # A trained velocity is near noise - data; random weights at full strength would make the path chaotic.
    for model in (reference, ours):
        model.final_layer.linear.weight.mul_(0.2)
    noise, first = randn((1, 8, *GRID), 1), randn((1, 8, 1, *GRID[1:]), 2)
    text = randn((2, 1, 7, 20), 3)
    mask = torch.tensor([[1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 0]])
    camera, plucker = camera_poses(GRID).expand(2, -1, -1), randn((1, 48, *GRID), 4).expand(2, -1, -1, -1, -1)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=9.8)
    expected = pipeline_loop(reference, scheduler, noise, first, text, mask, camera, plucker, steps=60)

    conditioning = ours.condition(text, mask, camera, plucker, GRID)
    velocity = guided(lambda latents, timesteps: ours.denoise(latents, timesteps, conditioning), 5.0)
    actual = sample(velocity, noise, first, sigma_schedule(60, 9.8))
    error = (actual - expected).abs().max().item()
    assert error <= 1e-3, f"latents differ by {error:.2e} after 60 steps"
    assert torch.equal(actual[:, :, :1], first)


def test_schedule_of_the_released_model():
    sigmas = sigma_schedule(60)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=9.8)
    scheduler.set_timesteps(60)
    torch.testing.assert_close(torch.tensor(sigmas), scheduler.sigmas, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.tensor(sigmas[:8]), torch.tensor(FIRST), atol=1e-7, rtol=0)
    assert sigmas[-3:] == pytest.approx([0.21058, 0.087705, 0], abs=1e-5)
    seen = [int(1000 * sigma) for sigma in sigmas[:60]]
    assert seen == scheduler.timesteps.long().tolist()


def test_one_step_goes_from_noise_to_data():
    assert sigma_schedule(1) == [1.0, 0.0]
    data = randn((1, 4, 3, 2, 2), 0)
    noise = randn((1, 4, 3, 2, 2), 1)
    out = sample(lambda latents, timesteps: latents - data, noise, data[:, :, :1], sigma_schedule(1))
    torch.testing.assert_close(out, data)


def test_first_frame_has_timestep_zero_and_stays():
    seen = []

    def velocity(latents, timesteps):
        seen.append((latents[:, :, :1].clone(), timesteps.clone()))
        return torch.ones_like(latents)

    first = randn((2, 4, 1, 2, 2), 5)
    out = sample(velocity, randn((2, 4, 3, 2, 2), 6), first, sigma_schedule(4))
    assert torch.equal(out[:, :, :1], first)
    for sigma, (frame, timesteps) in zip(sigma_schedule(4), seen, strict=False):
        assert torch.equal(frame, first)
        assert timesteps.shape == (2, 1, 3)
        assert timesteps[:, 0].tolist() == [[0.0] + [pytest.approx(1000 * sigma)] * 2] * 2


def test_on_step_reports_and_cancels():
    class Cancelled(Exception):
        pass

    steps = []

    def on_step(step, total, latents):
        steps.append((step, total))
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        noise = randn((1, 4, 3, 2, 2), 1)
        sample(lambda latents, timesteps: latents, noise, noise[:, :, :1], sigma_schedule(5), on_step)
    assert steps == [(1, 5), (2, 5)]


def test_bf16_latents_are_updated_in_fp32_and_stored_in_bf16():
    noise = randn((1, 4, 3, 2, 2), 1).bfloat16()
    velocity = randn((1, 4, 3, 2, 2), 2).bfloat16()
    out = sample(lambda latents, timesteps: velocity, noise, noise[:, :, :1], [1.0, 0.7])
    expected = (noise.float() - (1.0 - 0.7) * velocity.float()).bfloat16()
    assert out.dtype == torch.bfloat16
    assert torch.equal(out[:, :, 1:], expected[:, :, 1:])


def test_no_steps_is_refused():
    with pytest.raises(ValueError, match="at least 1 step"):
        sigma_schedule(0)
