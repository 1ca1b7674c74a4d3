# SPDX-License-Identifier: GPL-3.0-or-later
"""Does self forcing work? python -m tools.self_forcing_toy FOLDER, on a toy whose answer is known.

Four clips begin with the same picture, have the same prompt and the same camera, and go four ways. A teacher of 40
steps ends on one of them; with 4 steps it ends between them. The student of 4 steps goes through the recipes that the
released one went through: teacher, chunk-causal teacher, trajectories, ODE init, self forcing. It has to come closer to
what the teacher makes in 40 steps than the teacher comes in 4, on the mean and in the worst decile of noise that it
never saw. About eight minutes of CPU time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from backend.models.stage1 import load
from backend.protocol import atomic
from backend.sampling import flow_euler
from backend.sampling.self_forcing import RELEASED_STEP_LIST
from backend.training.batch import Batch
from backend.training.chunk_causal import ChunkCausalSettings
from backend.training.flow_matching import FlowMatchingSettings
from backend.training.loop import Progress
from backend.training.ode_init import OdeInitSettings
from backend.training.prediction import whole_velocity
from backend.training.self_forcing import SelfForcing, SelfForcingSettings
from backend.training.stage1_config import ModelSettings, Stage1Run
from backend.training.stage1_data import Data, with_trajectories
from backend.training.stage1_training import WEIGHTS, make_trajectories, train

FRAMES, CELLS, CHANNELS = 7, (1, 2), 4
WAYS, TRAJECTORIES, NOISES = 4, 32, 256
TEACHER_STEPS, STUDENT_STEPS = 40, 4
SWITCHES = {"softmax_in_bf16": False}
ARCHITECTURE = {
    "in_channels": CHANNELS, "out_channels": CHANNELS, "num_layers": 2, "softmax_every_n": 0, "hidden_size": 48,
    "head_dim": 24, "num_cross_heads": 2, "caption_channels": 8, "mlp_ratio": 1.0, **SWITCHES,
}  # fmt: skip


class FourWays:
    """See ClipSource. Clips (1,4,7,1,2) from one first frame along straight lines; clip i goes way i mod 4.

    Attributes:
        latents: (4,4,7,1,2), all there are.
    """

    def __init__(self, count: int = WAYS) -> None:
        generator = Generator().manual_seed(10)
        first = torch.randn(CHANNELS, *CELLS, generator=generator)
        numbers = first.numel()
        ends = torch.linalg.qr(torch.randn(numbers, WAYS, generator=generator)).Q.T * 1.5 * numbers**0.5
        way = torch.linspace(0, 1, FRAMES).view(1, 1, -1, 1, 1)
        self.latents = first[None, :, None] + ends.view(WAYS, CHANNELS, 1, *CELLS) * way
        self._plucker = 0.1 * torch.randn(1, 48, FRAMES, *CELLS, generator=generator)
        pose = torch.cat([torch.eye(4).flatten(), torch.tensor([1.5, 1.5, 1.0, 0.5])])
        self._camera, self._count = pose.expand(1, FRAMES, 20).clone(), count

    def __len__(self) -> int:
        return self._count

    def clip(self, index: int) -> Batch:
        return Batch(self.latents[index % WAYS][None], self._camera, self._plucker, *self.no_text())

    def no_text(self) -> tuple[Tensor, Tensor]:
        return torch.ones(1, 1, 1, 8), torch.ones(1, 1)

    def pictures(self, latents: Tensor) -> Tensor:
        return (latents[:3].transpose(0, 1) / 8 + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class Closeness:
    """Of samples to those of the teacher's 40 steps, mean squares a number.

    Attributes:
        mean, worst_decile: of the distance to the nearest one.
        back: mean distance from those to the nearest of the samples; large where a way is not gone.
        ways: how many samples are nearest to each of the four clips.
    """

    mean: float
    worst_decile: float
    back: float
    ways: tuple[int, ...]


def closeness(made: Tensor, wanted: Tensor, clips: Tensor) -> Closeness:
    there = _distances(made, wanted).min(dim=1).values
    worst = there.sort().values[-max(1, len(there) // 10) :]
    ways = _distances(made, clips).argmin(dim=1).bincount(minlength=len(clips))
    back = _distances(wanted, made).min(dim=1).values
    figures = (round(float(x.mean()), 4) for x in (there, worst, back))
    return Closeness(*figures, tuple(ways.tolist()))


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """Mean squares (N,M) between (N,C,T,H,W) and (M,C,T,H,W) over the frames that are not given."""
    one, other = (x[:, :, 1:].flatten(1) for x in (one, other))
    return torch.cdist(one, other).square() / one.shape[1]


def stages(folder: Path) -> dict[str, Stage1Run]:
    """The recipes in their order. Rates and turns are the toy's, which has hundreds of steps and not thousands."""

    def stage(recipe: Any, after: str, **changes: Any) -> Stage1Run:
        usual = {
            "data": "", "seed": 3, "batch_clips": 16, "learning_rate": 4e-3, "evaluate_every": 200, "ema": 0.98,
            "warm_up_steps": 20, "flat_share": 0.5, "weight_decay": 0.0, "recipe": recipe,
            "model": ModelSettings(str(folder / after / WEIGHTS), SWITCHES),
        }  # fmt: skip
        return Stage1Run(**usual | changes)

    teacher = str(folder / "flow_matching" / WEIGHTS)
    matching = SelfForcingSettings(
        teacher, generator_every=2, critic_rate_scale=1.0, score_shift=3.0, real_guidance=1.0
    )
    return {
        "flow_matching": stage(
            FlowMatchingSettings(3.0, 1.0, STUDENT_STEPS), "", folder=str(folder / "flow_matching"), steps=800,
            model=ModelSettings("", ARCHITECTURE),
        ),
        "chunk_causal": stage(
            ChunkCausalSettings(3.0, first_frame_share=1.0, sample_steps=STUDENT_STEPS), "flow_matching",
            folder=str(folder / "chunk_causal"), steps=300, learning_rate=2e-3,
        ),
        "ode_init": stage(
            OdeInitSettings(teacher_steps=20, teacher_guidance=1.0), "chunk_causal", folder=str(folder / "ode_init"),
            steps=200, learning_rate=2e-3,
        ),
        "self_forcing": stage(
            matching, "ode_init", folder=str(folder / "self_forcing"), steps=400, learning_rate=1e-3,
            betas=(0.0, 0.99), clip_norm=10.0, ema=0.95,
        ),
    }  # fmt: skip


def train_all(folder: Path) -> None:
    """Every stage from where it was stopped."""
    clips = FourWays()
    for name, config in stages(folder).items():
        data = Data(clips, clips)
        if name == "ode_init":
            many = FourWays(TRAJECTORIES)
            list(make_trajectories(config, Data(many, clips), "cpu"))
            data = with_trajectories(Data(many, clips), config)
        for report in train(name, config, data):
            if not isinstance(report, Progress) or report.step % 50 == 0:
                print(name, report, flush=True)


@torch.no_grad()
def compared(folder: Path) -> dict[str, Closeness]:
    """On noise that no stage saw. The sampler adds no noise between the steps; the rollouts of the training do."""
    clips = FourWays()
    batch = Batch.joined([clips.clip(index) for index in range(NOISES)])
    teacher = load(folder / "flow_matching" / WEIGHTS, SWITCHES).eval()

    def taught(seed: int, sigmas: Sequence[float]) -> Tensor:
        noise = torch.randn(batch.latents.shape, generator=Generator().manual_seed(seed))
        return flow_euler.sample(
            lambda latents, timesteps: whole_velocity(teacher, latents, timesteps, batch),
            noise,
            batch.latents[:, :, :1],
            sigmas,
        )

    def student(after: str, with_fresh_noise: bool) -> Tensor:
        model = load(folder / after / WEIGHTS, SWITCHES).eval()
        recipe = SelfForcing(model, teacher, teacher, clips.no_text(), SelfForcingSettings(""))
        generator = Generator().manual_seed(901)
        if with_fresh_noise:
            return recipe.rollout(batch, generator, STUDENT_STEPS)
        return recipe.sample(recipe.trained, batch, generator)

    wanted = taught(900, flow_euler.sigma_schedule(TEACHER_STEPS))
    made = {
        "teacher, 40 steps, other noise": taught(901, flow_euler.sigma_schedule(TEACHER_STEPS)),
        "teacher, 4 steps": taught(901, flow_euler.sigma_schedule(STUDENT_STEPS)),
        "teacher, the student's 4 steps": taught(901, [step / 1000 for step in RELEASED_STEP_LIST]),
        "student after ode_init": student("ode_init", False),
        "student after self_forcing": student("self_forcing", False),
        "rollout after ode_init": student("ode_init", True),
        "rollout after self_forcing": student("self_forcing", True),
    }
    return {name: closeness(samples, wanted, clips.latents) for name, samples in made.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the runs; they go on where they were stopped")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    train_all(folder)
    found = compared(folder)
    for name, figures in found.items():
        print(f"{name:32}", figures)
    atomic.write_json(folder / "closeness.json", {name: asdict(figures) for name, figures in found.items()})
    teachers = [figures for name, figures in found.items() if name.startswith("teacher") and "40" not in name]
    student = found["student after self_forcing"]
    passed = all(
        student.mean < teacher.mean and student.worst_decile < teacher.worst_decile for teacher in teachers
    )
    print("closer than the teacher's 4 steps" if passed else "NOT closer than the teacher's 4 steps")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
