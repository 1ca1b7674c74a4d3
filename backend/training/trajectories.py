# SPDX-License-Identifier: GPL-3.0-or-later
"""Trajectories of the chunk-causal teacher, kept at the noise levels that the student samples at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Generator, Tensor

from ..models.stage1 import Stage1Transformer
from ..models.tensor_file import FileTensor, mapped
from ..sampling import chunk_flow_euler, flow_euler
from ..sampling.chunk_grid import chunk_grid
from .batch import Batch, ClipSource
from .checkpoint import write_whole

_STEPS = "step_list"


class TrajectoryClips:
    """A source whose clips come with the teacher's snapshots.

    Raises:
        ValueError: the snapshots of a clip are not there, or are those of other steps.
    """

    def __init__(self, source: ClipSource, folder: Path, step_list: Sequence[float]) -> None:
        self._source, self._folder = source, folder
        missing = [index for index in range(len(source)) if not _path(folder, index).exists()]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(source)} clips have no teacher's trajectory in {folder}; make them first: "
                "python -m backend train trajectories --config FILE."
            )
        with safe_open(_path(folder, 0), "pt") as file:
            steps = (file.metadata() or {}).get(_STEPS)
        if steps != str(list(step_list)):
            raise ValueError(
                f"The trajectories in {folder} are of the steps {steps}, and recipe.step_list is {list(step_list)}; "
                "set it back, or remove the folder and make them again."
            )

    def __len__(self) -> int:
        return len(self._source)

    def clip(self, index: int) -> Batch:
        snapshots = mapped(_path(self._folder, index))["snapshots"].read().float()
        return replace(self._source.clip(index), snapshots=snapshots[None])

    def no_text(self) -> tuple[Tensor, Tensor]:
        return self._source.no_text()

    def pictures(self, latents: Tensor) -> Tensor:
        return self._source.pictures(latents)


def make_missing(
    teacher: Stage1Transformer,
    source: ClipSource,
    folder: Path,
    step_list: Sequence[float],
    steps: int,
    guidance: float,
    seed: int,
) -> Iterator[str]:
    """Sample the teacher for every clip that has no file yet; the noise of a clip follows from seed and index."""
    folder.mkdir(parents=True, exist_ok=True)
    device = next(teacher.parameters()).device
    for index in range(len(source)):
        path = _path(folder, index)
        if path.exists():
            continue
        clip = source.clip(index).to(device)
        generator = Generator().manual_seed(seed * 1_000_003 + index)
        no_text = tuple(part.to(device) for part in source.no_text()) if guidance != 1 else None
        kept = snapshots(teacher, clip, step_list, steps, guidance, no_text, generator)[0].half().cpu()
        tensors = {"snapshots": FileTensor(tuple(kept.shape), kept.dtype, kept.contiguous)}
        write_whole(path, tensors, metadata={_STEPS: str(list(step_list))})
        yield f"trajectory {index + 1} of {len(source)}"


@torch.no_grad()
def snapshots(
    teacher: Stage1Transformer,
    batch: Batch,
    step_list: Sequence[float],
    steps: int,
    guidance: float,
    no_text: tuple[Tensor, Tensor] | None,
    generator: Generator,
) -> Tensor:
    """(B,N,C,T,H,W): every chunk's state at the N timesteps of the list, which ends with 0, as one trajectory.

    Args:
        steps: of the teacher beside those of the list, for each chunk.
        guidance: scale; with 1 the empty prompt is not asked.
        no_text: states and mask of the empty prompt.
        generator: for the noise.
    """
    chunks = chunk_grid(batch.frames)
    starts = tuple(chunk.start for chunk in chunks)
    levels = torch.tensor(list(step_list[:-1]), dtype=torch.float32) / 1000
    sigmas = sorted({*levels.tolist(), *flow_euler.sigma_schedule(steps)}, reverse=True)
    noise = torch.randn(batch.latents.shape, generator=generator).to(batch.latents)
    texts = [(batch.text, batch.text_mask)]
    if guidance != 1:
        texts.append(tuple(part.expand(len(batch), *part.shape[1:]) for part in no_text))
    grid = tuple(batch.latents.shape[2:])
    looks = [teacher.condition(*text, batch.camera, batch.plucker, grid, starts) for text in texts]
    kept = batch.latents.unsqueeze(1).repeat(1, len(step_list), 1, 1, 1, 1)

    def predicted(latents: Tensor, timesteps: Tensor, count: int) -> Tensor:
        for number, level in enumerate(levels):
            here = (timesteps[0, 0] == 1000 * level).nonzero()[:, 0]
            kept[:, number, :, here] = latents[:, :, here]
        inputs = batch.inputs(latents, slice(0, latents.shape[2]))
        with_text, *without = (
            teacher.denoise(inputs, timesteps, look.first_chunks(count)).float() for look in looks
        )
        return with_text if not without else without[0] + guidance * (with_text - without[0])

    first = batch.latents[:, :, :1]
    kept[:, -1] = torch.cat(list(chunk_flow_euler.sample(predicted, noise, first, sigmas, chunks)), dim=2)
    return kept


def _path(folder: Path, index: int) -> Path:
    return folder / f"{index:06d}.safetensors"
