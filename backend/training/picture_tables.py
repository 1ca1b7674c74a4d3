# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures and sheets of finished pictures, also for scenes of another kind and first frames that are no renders.

    python -m backend.training.picture_tables --output build/tables [--blender build/blender_heldout]

Held-out clips are made as the product makes them, at its own size, with the weights that ship or with those of a long
run (--run its configuration): of the training generator's held-out scenes, or of what tools/blender_heldout.py made.
Every clip three times: from the render that is its first frame, from a graded one (asked for is the graded clip), and
from a graded one that is painted over as well (asked for is the graded clip, without brush).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..models.embedded import EmbeddedModel, RasterClip, projection_size
from ..models.embedded.composite import composite
from ..projection import ProjectedFrame, Projection
from ..projection.fill import spread
from ..projection.scene import RayScene
from ..protocol import atomic
from ..protocol.blockout import Blockout
from ..protocol.camera_path import CameraPath
from ..weights.embedded import load_embedded
from .config import RecipeConfig
from .detail_clips import seen_twice
from .detail_recipe import detailed, trained_model
from .evaluate import residual_of
from .first_frames import Grade, painted
from .moves import CANONICAL, NoPathFound, canonical_paths
from .render import render_frame
from .report import LOW_BLEND
from .scenes import random_scene

STYLES = ("rendered", "graded", "painted")
WITHOUT_SUN, FILL, QUARTER, NETWORK = (
    "guided fill without the sun",
    "guided fill",
    "network at a quarter",
    "network",
)
METHODS = ("repeat first frame", "warp + blur fill", WITHOUT_SUN, FILL, QUARTER, NETWORK)
FRAMES, JUDGED = 25, (8, 16, 24)
SHOWN = ("pan right", "dolly out")
_SEED, _HELDOUT_SEED = 20261122, 900_000
_HOLE_SHARE, _FEWEST_HOLE_PIXELS = 0.5, 400

# Frame 0 and the judged frames of a clip, (H, W, 3) float32.
Pictures = dict[int, np.ndarray]
# Residual and share of sky of the judged frames, at the size that the residual has.
Change = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Example:
    """One clip with what its scene really looks like."""

    scene: int
    move: str
    blockout: Blockout
    path: CameraPath
    pictures: Pictures


def generated_scene(index: int, size: tuple[int, int]) -> Iterator[Example]:
    """One of the training generator's held-out scenes, six moves through it."""
    for attempt in range(50):
        rng = np.random.default_rng((_SEED, _HELDOUT_SEED + index, attempt))
        scene = random_scene(rng)
        rays = RayScene(scene.blockout)
        try:
            paths = canonical_paths(rng, scene, rays, FRAMES)
        except NoPathFound:
            continue
        for move, path in paths.items():
            pictures = {n: render_frame(scene, rays, path, n, size) for n in (0, *JUDGED)}
            yield Example(index, move, scene.blockout, path, pictures)
        return


def blender_scene(file: Path, index: int) -> Iterator[Example]:
    """A file of tools/blender_heldout.py, at the size that it was rendered at."""
    with np.load(file, allow_pickle=False) as archive:
        stored = {name: archive[name] for name in archive.files}
    blockout = Blockout(**{name: stored[f"blockout_{name}"] for name in Blockout.__dataclass_fields__})
    height, width = stored["pictures"].shape[2:4]
    for row, move in enumerate(stored["moves"].tolist()):
        path = CameraPath(stored["c2w"][row], stored["intrinsics"][row], (width, height))
        shown = zip(stored["frames"].tolist(), stored["pictures"][row], strict=True)
        pictures = {n: picture.astype(np.float32) / 255 for n, picture in shown}
        yield Example(index, move, blockout, path, pictures)


def restyled(example: Example, style: str) -> tuple[np.ndarray, Pictures]:
    """The first frame in a style, and the pictures that it asks for."""
    if style == "rendered":
        return example.pictures[0], example.pictures
    rng = np.random.default_rng((_SEED, example.scene))
    grade = Grade(rng)
    graded = {n: grade(picture) for n, picture in example.pictures.items()}
    return (painted(graded[0], rng) if style == "painted" else graded[0]), graded


def shipped_changes(model: EmbeddedModel) -> Callable[[Example, np.ndarray], Change]:
    """As the product runs the weights: residual at the network's raster."""

    def changes(example: Example, first: np.ndarray) -> Change:
        seen, _ = _seen(example, first, model)
        filtered, _ = residual_of(model, seen, example.path)
        return filtered[list(JUDGED)], seen.sky[list(JUDGED)]

    return changes


def detail_changes(model: EmbeddedModel) -> Callable[[Example, np.ndarray], Change]:
    """With the pixel filter at twice the raster."""

    @torch.no_grad()
    def changes(example: Example, first: np.ndarray) -> Change:
        seen, closer = _seen(example, first, model)
        _, decoded = residual_of(model, seen, example.path)
        return detailed(model, closer, decoded[list(JUDGED)]), closer.sky

    return changes


def compared(
    examples: Iterable[Example], changes: Callable[[Example, np.ndarray], Change], output: Path
) -> list[dict]:
    """Decibels, whole and in the holes, of every clip in every style and method; some sheets besides."""
    rows: list[dict] = []
    for example in examples:
        for style in STYLES:
            first, wanted = restyled(example, style)
            frames, made = _made(example, first, changes(example, first))
            about = {"scene": example.scene, "move": example.move, "style": style}
            for method, pictures in made.items():
                squares = {n: np.square(pictures[n] - wanted[n]).mean(-1) for n in JUDGED}
                holes = np.concatenate([squares[n][frames[n].visible < _HOLE_SHARE] for n in JUDGED])
                enough = len(holes) >= _FEWEST_HOLE_PIXELS
                whole = _decibels(np.stack(list(squares.values())))
                figures = {"whole": whole, "holes": _decibels(holes) if enough else None}
                rows.append({**about, "method": method, **figures})
            if example.move in SHOWN:
                name = f"{example.scene:02d}_{example.move.replace(' ', '_')}_{style}.png"
                _sheet(frames, made, wanted, output / name)
    return rows


def summary(rows: list[dict]) -> dict[str, dict]:
    """Means over clips, by style, method and move."""
    return {
        style: {
            "table": {
                m: {k: _mean(rows, k, style=style, method=m) for k in ("whole", "holes")} for m in METHODS
            },
            "moves": {
                move: {m: _mean(rows, "holes", style=style, method=m, move=move) for m in METHODS[2:]}
                for move in CANONICAL
            },
        }
        for style in STYLES
    } | {"clips": len(rows) // len(METHODS) // len(STYLES)}


def _seen(example: Example, first: np.ndarray, model: EmbeddedModel) -> tuple[RasterClip, RasterClip]:
    """The whole clip at the raster, and its judged frames at twice the raster."""
    raster = model.config.raster_for((first.shape[1], first.shape[0]))
    size = projection_size(raster)
    small = cv2.resize(first, size, interpolation=cv2.INTER_AREA)
    return seen_twice(Projection(example.blockout, example.path, small, size), raster, JUDGED, FRAMES)


def _made(
    example: Example, first: np.ndarray, change: Change
) -> tuple[dict[int, ProjectedFrame], dict[str, Pictures]]:
    size = first.shape[1], first.shape[0]
    projection = Projection(example.blockout, example.path, first, size)
    frames = {n: projection.frame(n) for n in JUDGED}
    sunless = projection
    if not isinstance(projection.sun, str):
        sunless = Projection(example.blockout, example.path, first, size, sun="none")

    def finished(strength: float) -> Pictures:
        parts = zip(frames.items(), *change, strict=True)
        return {
            n: composite(frame.base, residual, sky, frame.visible, frame.is_sky, strength)
            for (n, frame), residual, sky in parts
        }

    made = (
        dict.fromkeys(JUDGED, first),
        {n: _blurred(frame) for n, frame in frames.items()},
        {n: sunless.frame(n).base for n in JUDGED},
        {n: frame.base for n, frame in frames.items()},
        finished(LOW_BLEND),
        finished(1.0),
    )
    return frames, dict(zip(METHODS, made, strict=True))


def _blurred(frame: ProjectedFrame) -> np.ndarray:
    share = frame.visible[..., None]
    return frame.base * share + spread(frame.base, frame.visible) * (1 - share)


def _decibels(squares: np.ndarray) -> float:
    return round(float(-10 * np.log10(squares.mean() + 1e-10)), 3)


def _mean(rows: list[dict], key: str, **chosen: str) -> float | None:
    values = [row[key] for row in rows if all(row[name] == value for name, value in chosen.items())]
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 2) if known else None


def _sheet(
    frames: dict[int, ProjectedFrame], made: dict[str, Pictures], wanted: Pictures, path: Path
) -> None:
    """Columns: the judged frames. Rows: what the first frame shows, fill without and with the sun, network, truth."""
    seen = {n: frame.base * frame.visible[..., None] for n, frame in frames.items()}
    rows = (seen, made[WITHOUT_SUN], made[FILL], made[NETWORK], wanted)
    picture = np.concatenate([np.concatenate([row[n] for n in JUDGED], axis=1) for row in rows])
    Image.fromarray(np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)).save(path)


def main(argv: list[str]) -> int:
    """Write `table.json`, rows and sheets; scenes whose rows are there already are kept. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m backend.training.picture_tables", description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--blender", type=Path, help="folder of tools/blender_heldout.py")
    parser.add_argument("--scenes", type=int, default=16, help="without it: so many of our generator's")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 352), help="of their pictures")
    parser.add_argument("--run", type=Path, help="configuration of a long run, to judge its checkpoint")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.run:
        changes = detail_changes(trained_model(RecipeConfig.load(options.run)))
    else:
        changes = shipped_changes(load_embedded())
    if options.blender:
        files = sorted(options.blender.glob("scene_*.npz"))
        scenes = [partial(blender_scene, file, index) for index, file in enumerate(files)]
    else:
        scenes = [partial(generated_scene, index, tuple(options.size)) for index in range(options.scenes)]
    rows: list[dict] = []
    for index, scene in enumerate(scenes):
        kept = options.output / f"rows_{index:02d}.json"
        if not kept.exists():
            atomic.write_json(kept, compared(scene(), changes, options.output))
        rows += atomic.read_json(kept)
        print(f"{index + 1} of {len(scenes)} scenes", flush=True)
    result = summary(rows)
    atomic.write_json(options.output / "table.json", result)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
