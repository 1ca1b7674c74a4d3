# SPDX-License-Identifier: GPL-3.0-or-later
"""Self forcing: rollouts, and where the difference of the scores leads when both are known."""

import pytest
import torch

from backend.training.batch import Batch
from backend.training.self_forcing import SelfForcing, SelfForcingSettings
from tests.training.test_recipes import RECIPES, PerfectScore
from tests.training.tiny_clips import TinyClips, tiny_model

CLIPS = TinyClips()


class GaussianScore(torch.nn.Module):
    """The velocity where every number of the data is drawn from one normal distribution."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, noisy, timesteps, *_):
        sigma = (timesteps / 1000)[..., None, None].clamp(min=1e-3)
        variance = self.deviation.square()
        share = (1 - sigma) * variance / ((1 - sigma).square() * variance + sigma.square())
        clean = self.mean + share * (noisy - (1 - sigma) * self.mean)
        return (noisy - clean) / sigma


class GaussianRollout(SelfForcing):
    """Whose student draws its frames from a normal distribution of its own, which its critic knows exactly."""

    def __init__(self, mean: float, deviation: float) -> None:
        self.own = torch.nn.Parameter(torch.tensor([mean, deviation]))
        critic = GaussianScore(*self.own.detach())
        real = GaussianScore(torch.tensor(1.5), torch.tensor(0.5))
        super().__init__(
            torch.nn.Module(), critic, real, CLIPS.no_text(), SelfForcingSettings("", real_guidance=1.0)
        )

    def rollout(self, batch, generator):
        drawn = torch.randn(batch.latents.shape, generator=generator)
        return torch.cat([batch.latents[:, :, :1], self.own[0] + self.own[1] * drawn[:, :, 1:]], dim=2)


@pytest.mark.parametrize("begins", [(-1.0, 0.2), (4.0, 1.5)])
def test_the_difference_of_the_scores_moves_a_student_to_the_data(begins):
    """Its mean and its spread, from either side; the answer is known."""
    recipe = GaussianRollout(*begins)
    batch = Batch.joined([CLIPS.clip(index % 4) for index in range(16)])
    generator, optimizer = torch.Generator().manual_seed(1), torch.optim.Adam([recipe.own], lr=0.05)
    loss = recipe.losses(0)["generator"]
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 300)
        optimizer.zero_grad()
        loss(batch, generator).backward()
        optimizer.step()
    assert recipe.own.detach().tolist() == pytest.approx([1.5, 0.5], abs=0.1)


def test_gradients_of_a_rollout_come_from_its_last_step_alone(monkeypatch):
    recipe = SelfForcing(
        tiny_model(1), tiny_model(2), PerfectScore(), CLIPS.no_text(), RECIPES["self_forcing"]
    )
    torch.nn.init.normal_(recipe.trained["generator"].final_layer.linear.weight, std=0.1)
    generator, recorded = recipe.trained["generator"], []
    plain = type(generator).denoise

    def denoise(self, latents, timesteps, conditioning, carry=None, save=False):
        recorded.append((float(timesteps.max()), torch.is_grad_enabled(), save))
        return plain(self, latents, timesteps, conditioning, carry, save)

    monkeypatch.setattr(type(generator), "denoise", denoise)
    seen = set()
    for seed in range(8):
        recorded.clear()
        made = recipe.rollout(CLIPS.clip(0), torch.Generator().manual_seed(seed))
        assert made.requires_grad and torch.equal(made[:, :, 0], CLIPS.clip(0).latents[:, :, 0])
        steps = [call[0] for call in recorded if not call[2]]
        seen.add(len(steps) // 2)
        per_chunk = [1000.0, 727.0][: len(steps) // 2]
        assert steps == 2 * per_chunk, "every chunk leaves after the same step"
        with_gradient = [call for call in recorded if call[1]]
        assert with_gradient == 2 * [(per_chunk[-1], True, False)]
        assert [call[0] for call in recorded if call[2]] == [0, 0], "clean passes fill the carry"
    assert seen == {1, 2}
