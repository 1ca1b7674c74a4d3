# SPDX-License-Identifier: GPL-3.0-or-later
"""What the embedded model's three variants are worth on longer held-out clips, and whether the student counts as one.

    python -m backend.training.student_gate --output build/variants [--weights DIR]

The teacher in 40 steps is what the student shall reach. It counts as a student if its few steps end nearer to that
than the teacher's own few steps do: in the mean over the clips and in the worst tenth of them. DIR is a
folder of weights as the one that ships; a variant without a network of its own runs the bidirectional one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..conditioning.camera import pixel_frames
from ..films.embedded_film import EmbeddedStudent
from ..models.embedded import EmbeddedConditioning, EmbeddedModel, RasterClip
from ..protocol import atomic
from ..protocol.camera_path import CameraPath
from ..protocol.limits import TEMPORAL_STRIDE
from ..sampling import chunk_flow_euler, self_forcing
from ..sampling.chunk_grid import chunk_grid
from ..sampling.flow_euler import sigma_schedule
from ..weights.embedded import FOLDER, load_embedded
from .cli import DEFAULT_CONFIG
from .config import RecipeConfig
from .detail_clips import DetailClip, DetailClips, make_missing
from .evaluate import difference_of, in_holes, score
from .picture_tables import LOW_BLEND

VARIANTS = {"final": "bidirectional", "teacher": "chunk_causal", "student": "streaming"}
FULL_STEPS, FEW_STEPS = 40, 4
STRENGTHS = (LOW_BLEND, 1.0)
MOVES = ("pan left", "dolly in", "orbit right")
FRAMES, JUDGED_FRAMES = 97, 24
FILL, FINAL, FEW, FULL, STUDENT = "guided fill", "final", "teacher, few steps", "teacher, full", "student"
_SEED = 1_000_003


def teacher_difference(
    model: EmbeddedModel, clip: RasterClip, path: CameraPath, steps: int, seed: int = 0
) -> Tensor:
    """(F, 3, h, w), what the chunk-causal model changes in the base in so many steps a chunk, at the raster."""
    looks = _Looks(model, clip, path)
    seen = looks.see(looks.chunks)
    parts = chunk_flow_euler.sample(
        lambda latents, timesteps, _: model.velocity(latents, timesteps, seen),
        torch.cat([_noise(seen, seed)(chunk) for chunk in looks.chunks], dim=2),
        seen.base_latents[:, :, :1],
        sigma_schedule(steps),
        looks.chunks,
    )
    pairs = zip(parts, looks.chunks, strict=True)
    return torch.cat([model.difference(latents, seen, chunk) for latents, chunk in pairs])


def student_difference(
    model: EmbeddedModel, clip: RasterClip, path: CameraPath, step_list: Sequence[float], seed: int = 0
) -> Tensor:
    """The same by the streaming model: one chunk after the other, with a carry, from the same noise."""
    looks = _Looks(model, clip, path)
    first = looks.see(looks.chunks[:1])
    parts = self_forcing.sample(
        EmbeddedStudent(model, looks),
        _noise(first, seed),
        first.base_latents[:, :, :1],
        [step / 1000 for step in step_list],
        looks.chunks,
    )
    pairs = zip(parts, looks.chunks, strict=True)
    return torch.cat([model.difference(latents, looks.see([chunk]), chunk) for latents, chunk in pairs])


def distance(residual: Tensor, wanted: Tensor, visible: Tensor) -> float:
    """Root mean square over the holes, sRGB 0..1; residuals (N, 3, h, w), visible (N, 1, h, w)."""
    holes = 1 - visible
    squares = ((residual - wanted).square() * holes).sum()
    return float((squares / (3 * holes.sum()).clamp(min=1)).sqrt())


@torch.no_grad()
def compared(
    models: dict[str, EmbeddedModel], clips: Sequence[DetailClip], step_list: Sequence[float]
) -> Iterator[dict]:
    """A row for each clip: decibels in the holes by variant and strength, and distances to the teacher in full, over
    the clip's fine frames.

    Args:
        models: "final", "teacher" and "student".
        step_list: the student's timesteps, falling from at most 1000 to 0.
    """
    for number, clip in enumerate(clips):
        look, seen, truth = (clip.coarse.projection, clip.coarse.path), clip.fine.projection, clip.fine.truth
        differences = {
            FINAL: ("final", difference_of(models["final"], *look, number)),
            FEW: ("teacher", teacher_difference(models["teacher"], *look, FEW_STEPS, number)),
            FULL: ("teacher", teacher_difference(models["teacher"], *look, FULL_STEPS, number)),
            STUDENT: ("student", student_difference(models["student"], *look, step_list, number)),
        }
        made = {
            name: models[of].residual(difference[clip.frames], seen)
            for name, (of, difference) in differences.items()
        }
        ways = {FILL: torch.zeros_like(truth), **made}
        holes = {
            name: [score(in_holes(seen, added, s), truth, seen.visible).holes for s in STRENGTHS]
            for name, added in ways.items()
        }
        far = {name: distance(made[name], made[FULL], seen.visible) for name in (FEW, STUDENT)}
        yield {"move": clip.coarse.move, "holes_db": holes, "to_full": far}


def gate(rows: Sequence[dict]) -> dict:
    """Is the student nearer to the teacher in full than the teacher's few steps, in the mean and the worst tenth?"""
    far = {name: np.array([row["to_full"][name] for row in rows]) for name in (FEW, STUDENT)}
    means = {name: float(values.mean()) for name, values in far.items()}
    worst = {name: float(np.percentile(values, 90)) for name, values in far.items()}
    passed = means[STUDENT] < means[FEW] and worst[STUDENT] < worst[FEW]
    return {"mean": means, "worst_tenth": worst, "passed": passed}


def report(rows: Sequence[dict]) -> dict:
    """Mean decibels by variant and strength, and the gate; None where no clip has enough holes."""
    decibels = {}
    for name in rows[0]["holes_db"]:
        values = np.array([row["holes_db"][name] for row in rows])
        known = values[np.isfinite(values).all(1)]
        means = known.mean(0).round(2).tolist() if len(known) else [None] * len(STRENGTHS)
        decibels[name] = dict(zip(map(str, STRENGTHS), means, strict=True))
    return {"clips": len(rows), "holes_db": decibels, "student": gate(rows)}


def _noise(seen: EmbeddedConditioning, seed: int) -> Callable[[slice], Tensor]:
    """What teacher and student begin a chunk with: the same, so that what differs is their steps alone."""
    channels, _, height, width = seen.base_latents[0].shape
    return self_forcing.chunk_noise((channels, height, width), seed, torch.float32, seen.base_latents.device)


class _Looks:
    """A clip that is there already, seen chunk by chunk as `EmbeddedFilm` would."""

    def __init__(self, model: EmbeddedModel, clip: RasterClip, path: CameraPath) -> None:
        self.chunks = chunk_grid((len(path) - 1) // TEMPORAL_STRIDE + 1)
        self._model, self._clip, self._path = model, clip, path
        self._last: EmbeddedConditioning | None = None

    def see(self, chunks: Sequence[slice]) -> EmbeddedConditioning:
        latents = slice(chunks[0].start, chunks[-1].stop)
        if self._last is None or self._last.latents != latents:
            part = self._clip.part(pixel_frames(latents))
            self._last = self._model.condition(part, self._path, chunks, self._last)
        return self._last


def main(argv: list[str]) -> int:
    """Make the clips that are not there yet, judge, write `variants.json`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m backend.training.student_gate", description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--weights", type=Path, default=FOLDER, metavar="DIR", help="as the folder that ships"
    )
    parser.add_argument("--scenes", type=int, default=4, help="of three moves each")
    parser.add_argument(
        "--step-list", type=float, nargs="+", default=self_forcing.RELEASED_STEP_LIST, help="the student's"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    config = replace(
        RecipeConfig.load(DEFAULT_CONFIG),
        folder=str(options.output),
        seed=_SEED,
        scenes=0,
        frames=FRAMES,
        heldout_scenes=options.scenes,
        filter_frames=JUDGED_FRAMES,
    )
    try:
        models = {
            name: load_embedded(folder=options.weights, variant=variant) for name, variant in VARIANTS.items()
        }
        for line in make_missing(config):
            print(line, flush=True)
        stored = DetailClips(config, "heldout")
        clips = [
            clip for clip in (stored[index] for index in range(len(stored))) if clip.coarse.move in MOVES
        ]
        rows = []
        for row in compared(models, clips, options.step_list):
            rows.append(row)
            print(f"{len(rows)} of {len(clips)} clips", flush=True)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"The variants cannot be judged: {error}", file=sys.stderr)
        return 1
    result = report(rows)
    atomic.write_json(options.output / "variants.json", result)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
