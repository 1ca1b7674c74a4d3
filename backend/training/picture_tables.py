# SPDX-License-Identifier: GPL-3.0-or-later
"""The model card's figures and sheets: finished pictures, also for scenes of another kind and first frames that are no
renders, and the network's gate.

    python -m backend.training.picture_tables --output build/tables [--blender build/blender_heldout]

Held-out clips are made as the product makes them, at its own size, with the weights that ship or with those of a run
(--run its configuration): of the training generator's held-out scenes, or of what tools/blender_heldout.py made. Every
clip three times: from the render that is its first frame, from a graded one (asked for is the graded clip), and from a
graded one that is painted over as well (asked for is the graded clip, without brush).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from ..films.embedded_film import completed
from ..models.embedded import EmbeddedModel, RasterClipBuilder, projection_size
from ..projection import ProjectedFrame, Projection, project
from ..projection.fill import spread
from ..projection.scene import RayScene
from ..protocol import atomic
from ..protocol.blockout import Blockout
from ..protocol.camera_path import CameraPath
from ..weights.embedded import load_embedded
from .config import RecipeConfig
from .evaluate import difference_of
from .first_frames import Grade, painted
from .moves import CANONICAL, NoPathFound, canonical_paths
from .pool import in_processes
from .render import render_frame
from .residual_flow import trained_model
from .scenes import random_scene

STYLES = ("rendered", "graded", "painted")
WITHOUT_SUN, FILL, QUARTER, NETWORK = (
    "guided fill without the sun",
    "guided fill",
    "network at a quarter",
    "network",
)
METHODS = ("repeat first frame", "warp + blur fill", WITHOUT_SUN, FILL, QUARTER, NETWORK)
LOW_BLEND, GATE_DB = 0.25, 0.7
SCENES, SIZE = 16, (640, 352)
FRAMES, JUDGED = 25, (8, 16, 24)
SHOWN = ("pan right", "dolly out")
_SEED, _HELDOUT_SEED = 20261122, 900_000
_HOLE_SHARE, _FEWEST_HOLE_PIXELS = 0.5, 400

# Frame 0 and the judged frames of a clip, (H, W, 3) float32.
Pictures = dict[int, np.ndarray]
# Frames of a clip as they are finished with the network at a strength.
Finished = Callable[[dict[int, ProjectedFrame], float], Pictures]


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


def by_network(model: EmbeddedModel, example: Example, first: np.ndarray) -> Finished:
    """As the product runs the model."""
    raster = model.config.raster_for((first.shape[1], first.shape[0]))
    size = projection_size(raster)
    small, builder = cv2.resize(first, size, interpolation=cv2.INTER_AREA), RasterClipBuilder(raster)
    for frame in project(example.blockout, example.path, small, size):
        builder.add(frame.base, frame.guide, frame.visible, frame.inverse_depth, frame.is_sky)
    seen = builder.build()
    difference = difference_of(model, seen, example.path)

    def finished(frames: dict[int, ProjectedFrame], strength: float) -> Pictures:
        return {n: completed(model, f, difference[n], seen.unit_m, strength) for n, f in frames.items()}

    return finished


def compared(
    scene: Sequence[Example], by_model: Callable[[Example, np.ndarray], Finished], output: Path
) -> list[dict]:
    """Of every clip of a scene, in every style and method: decibels, whole and in the holes, and whether it is nearer
    to the truth of its own move than to those of the others; some sheets besides."""
    rows: list[dict] = []
    for style in STYLES:
        restyled_clips = {example.move: restyled(example, style) for example in scene}
        for example in scene:
            first, wanted = restyled_clips[example.move]
            frames, made = _made(example, first, by_model(example, first))
            about = {"scene": example.scene, "move": example.move, "style": style}
            for method, pictures in made.items():
                squares = {n: np.square(pictures[n] - wanted[n]).mean(-1) for n in JUDGED}
                holes = np.concatenate([squares[n][frames[n].visible < _HOLE_SHARE] for n in JUDGED])
                enough = len(holes) >= _FEWEST_HOLE_PIXELS
                whole = _decibels(np.stack(list(squares.values())))
                away = {
                    move: sum(float(np.square(pictures[n] - truth[n]).mean()) for n in JUDGED)
                    for move, (_, truth) in restyled_clips.items()
                }
                own = min(away, key=away.__getitem__) == example.move
                figures = {"whole": whole, "holes": _decibels(holes) if enough else None, "own_move": own}
                rows.append({**about, "method": method, **figures})
            if example.move in SHOWN:
                name = f"{example.scene:02d}_{example.move.replace(' ', '_')}_{style}.png"
                _sheet(frames, made, wanted, output / name)
    return rows


def tables(
    model: EmbeddedModel, scenes: Sequence[Callable[[], Iterator[Example]]], output: Path
) -> Iterator[str]:
    """Write `table.json`, rows and sheets; scenes whose rows are there already are kept. Yields lines."""
    output.mkdir(parents=True, exist_ok=True)
    files = [output / f"rows_{index:02d}.json" for index in range(len(scenes))]
    missing = [(model, scene, file) for scene, file in zip(scenes, files, strict=True) if not file.exists()]
    for done in in_processes(_write_rows, missing):
        yield f"{len(files) - len(missing) + done} of {len(files)} scenes"
    result = summary([row for file in files for row in atomic.read_json(file)])
    atomic.write_json(output / "table.json", result)
    yield json.dumps(result, indent=2)


def _write_rows(model: EmbeddedModel, scene: Callable[[], Iterator[Example]], file: Path) -> None:
    atomic.write_json(file, compared(list(scene()), partial(by_network, model), file.parent))


def generated_scenes(
    count: int = SCENES, size: tuple[int, int] = SIZE
) -> list[Callable[[], Iterator[Example]]]:
    return [partial(generated_scene, index, size) for index in range(count)]


def summary(rows: list[dict]) -> dict:
    """Means over clips, by style, method and move; and the gate, with the strength that it allows."""
    keys = ("whole", "holes", "own_move")
    styles = {
        style: {
            "table": {m: {k: _mean(rows, k, style=style, method=m) for k in keys} for m in METHODS},
            "moves": {
                move: {m: _mean(rows, "holes", style=style, method=m, move=move) for m in METHODS[2:]}
                for move in CANONICAL
            },
        }
        for style in STYLES
    }
    judged = gate(rows)
    clips = len(rows) // len(METHODS) // len(STYLES)
    return {"clips": clips, "gate": judged, "default_blend": 1.0 if judged["passed"] else 0.0, **styles}


def gate(rows: list[dict]) -> dict:
    """Do the holes of rendered first frames gain enough over the fill, and does no kind of move lose?"""
    holes = {
        (r["scene"], r["move"], r["method"]): r["holes"]
        for r in rows
        if r["style"] == "rendered" and r["holes"] is not None
    }
    gains = {
        (scene, move): found - holes[scene, move, FILL]
        for (scene, move, method), found in holes.items()
        if method == NETWORK
    }
    by_move = [[g for (_, of), g in gains.items() if of == move] for move in CANONICAL]
    values = np.array(list(gains.values()))
    gain, worst = float(values.mean()), min(float(np.mean(found)) for found in by_move if found)
    return {
        "holes_gain_db": round(gain, 2),
        "worst_move_gain_db": round(worst, 2),
        "clips_better": round(float((values > 0).mean()), 2),
        "tenth_percentile_db": round(float(np.percentile(values, 10)), 2),
        "passed": gain >= GATE_DB and worst >= 0,
    }


def _made(
    example: Example, first: np.ndarray, finished: Finished
) -> tuple[dict[int, ProjectedFrame], dict[str, Pictures]]:
    size = first.shape[1], first.shape[0]
    projection = Projection(example.blockout, example.path, first, size)
    frames = {n: projection.frame(n) for n in JUDGED}
    sunless = projection
    if not isinstance(projection.sun, str):
        sunless = Projection(example.blockout, example.path, first, size, sun="none")

    made = (
        dict.fromkeys(JUDGED, first),
        {n: _blurred(frame) for n, frame in frames.items()},
        {n: sunless.frame(n).base for n in JUDGED},
        {n: frame.base for n, frame in frames.items()},
        finished(frames, LOW_BLEND),
        finished(frames, 1.0),
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
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m backend.training.picture_tables", description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--blender", type=Path, help="folder of tools/blender_heldout.py")
    parser.add_argument("--scenes", type=int, default=SCENES, help="without it: so many of our generator's")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, help="of their pictures")
    parser.add_argument("--run", type=Path, help="configuration of a run, to judge its checkpoint")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = trained_model(RecipeConfig.load(options.run)) if options.run else load_embedded()
    scenes = generated_scenes(options.scenes, tuple(options.size))
    if options.blender:
        files = sorted(options.blender.glob("scene_*.npz"))
        scenes = [partial(blender_scene, file, index) for index, file in enumerate(files)]
    for line in tables(model, scenes, options.output):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
