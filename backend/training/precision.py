# SPDX-License-Identifier: GPL-3.0-or-later
"""What NVFP4 costs the embedded model, for its card: pictures, camera and file size, beside the model as it ships."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..camera_match import match_camera
from ..models.embedded import EmbeddedModel
from ..models.stage1 import load
from ..projection import project
from ..protocol.camera_path import CameraPath
from ..quantization.linear import QuantizedLinear
from ..quantization.quantize import quantize_checkpoint
from ..weights.embedded import FOLDER, load_embedded
from .clip_files import TrainingClip
from .config import RecipeConfig
from .detail_clips import DetailClips, make_missing
from .evaluate import difference_of, in_holes, score
from .picture_tables import LOW_BLEND, Example, by_network
from .render import render_frame
from .scene_files import scene_of

FORMAT, WEIGHTS_FILE = "nvfp4", "stage1.safetensors"
PLAIN = "fp32"
# How the kernels compute with a 4-bit weight, and in words.
WAYS = {"weight only": "nvfp4 weights", "emulated": "nvfp4 weights and activations"}
NO_NETWORK = "no network"
STRENGTHS = (1.0, LOW_BLEND)
# At less, the camera match has too few points to tell a hundredth of a degree.
CAMERA_SIZE, CAMERA_SCENES = (640, 352), 4


def precision_report(config: RecipeConfig, camera_scenes: int = CAMERA_SCENES) -> Iterator[str]:
    """Make the held-out clips with the files that ship, in every precision; writes `precision.json`, yields lines.

    Held-out scenes that are not on the disk yet are rendered first. Pictures are compared at the pixel filter's
    size over all of them; the camera is measured at CAMERA_SIZE over the first few.
    """
    heldout = replace(config, scenes=0)
    yield from make_missing(heldout)
    with tempfile.TemporaryDirectory() as scratch:
        models, sizes = in_precisions(Path(scratch))
        yield f"{WEIGHTS_FILE}: {sizes[FORMAT]:,} of {sizes['fp16']:,} bytes"
        record: dict = {"bytes": sizes, "size_ratio": round(sizes[FORMAT] / sizes["fp16"], 3)}
        clips = DetailClips(config, "heldout")
        record["pictures"] = _pictures(models, clips)
        yield f"pictures of {len(clips)} clips: {json.dumps(record['pictures'])}"
        rows: list[dict] = []
        for index in range(min(camera_scenes, config.heldout_scenes)):
            rows += _camera_rows(models, config, index)
            yield f"camera in scene {index + 1}"
    record["camera"] = _summed_up(rows)
    (Path(config.folder) / "precision.json").write_text(json.dumps(record, indent=2) + "\n")
    yield json.dumps(record, indent=2)


def in_precisions(scratch: Path) -> tuple[dict[str, EmbeddedModel], dict[str, int]]:
    """The model that ships, by precision, quantised as `weights quantize` does; and the bytes of stage 1's files."""
    quantize_checkpoint(FOLDER / WEIGHTS_FILE, scratch / FORMAT, FORMAT, WEIGHTS_FILE, is_refiner=False)
    written = scratch / FORMAT / WEIGHTS_FILE
    models = {PLAIN: load_embedded()}
    for way, name in WAYS.items():
        model = load_embedded()
        model.stage1 = load(written, model.config.stage1, format=FORMAT)
        for module in model.stage1.modules():
            if isinstance(module, QuantizedLinear):
                module.way = way
        models[name] = model
    return models, {"fp16": (FOLDER / WEIGHTS_FILE).stat().st_size, FORMAT: written.stat().st_size}


def _pictures(models: dict[str, EmbeddedModel], clips: DetailClips) -> dict[str, dict[str, float]]:
    """Peak signal-to-noise ratios in dB over the clips: whole at full strength, and holes at each strength.

    And how far the residuals lie from those of the plain model, as a share of their norm.
    """
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in (NO_NETWORK, *models)}
    for index in range(len(clips)):
        clip = clips[index]
        plain = torch.zeros_like(clip.fine.truth)
        rows[NO_NETWORK].append(_scores(plain, clip.fine, plain))
        for name, model in models.items():
            difference = difference_of(model, clip.coarse.projection, clip.coarse.path)[clip.frames]
            residual = model.residual(difference, clip.fine.projection)
            plain = residual if name == PLAIN else plain
            rows[name].append(_scores(residual, clip.fine, plain))
    titles = ("whole_db", *(f"holes_db_at_{strength:g}" for strength in STRENGTHS), "off_plain")
    return {
        name: dict(zip(titles, np.nanmean(found, axis=0).round(3).tolist(), strict=True))
        for name, found in rows.items()
    }


def _scores(residual: Tensor, clip: TrainingClip, plain: Tensor) -> tuple[float, ...]:
    seen = clip.projection
    scores = [score(in_holes(seen, residual, strength), clip.truth, seen.visible) for strength in STRENGTHS]
    off = float((residual - plain).norm() / plain.norm().clamp(min=1e-9))
    return scores[0].whole, *(found.holes for found in scores), off


def _camera_rows(models: dict[str, EmbeddedModel], config: RecipeConfig, index: int) -> Iterator[dict]:
    """What the camera match says of every move through a scene, in every precision and strength."""
    scene, rays, paths = scene_of(config, "heldout", index)
    for move, path in paths.items():
        path = path.fitted_to(CAMERA_SIZE)
        first = render_frame(scene, rays, path, 0, CAMERA_SIZE).clip(0, 1)
        example = Example(index, move, scene.blockout, path, {})
        frames = dict(enumerate(project(scene.blockout, path, first, CAMERA_SIZE)))
        made = {name: by_network(model, example, first) for name, model in models.items()}
        ways = [(NO_NETWORK, 0.0), *((name, strength) for name in models for strength in STRENGTHS)]
        for name, strength in ways:
            pictures = made[name](frames, strength) if strength else {n: f.base for n, f in frames.items()}
            levels = ((picture * 255 + 0.5).clip(0, 255).astype(np.uint8) for picture in pictures.values())
            yield {"move": move, "name": name, "strength": strength, **_measured(levels, scene, path)}


def _measured(frames: Iterator[np.ndarray], scene, path: CameraPath) -> dict[str, float]:
    """Median error over the frames; nan where the camera could not be told."""
    match = match_camera(frames, scene.blockout, path, pose_offset=0)
    curves = {"heading_deg": match.heading_deg, "position_m": match.position_m}
    return {
        name: float(np.nanmedian(np.array(curve[1:], dtype=float))) if curve else float("nan")
        for name, curve in curves.items()
    }


def _summed_up(rows: list[dict]) -> list[dict]:
    """Mean and worst over the clips, by precision and strength."""
    found = []
    for name, strength in dict.fromkeys((row["name"], row["strength"]) for row in rows):
        own = [row for row in rows if (row["name"], row["strength"]) == (name, strength)]
        summed: dict = {"name": name, "strength": strength, "clips": len(own)}
        for key in ("heading_deg", "position_m"):
            values = np.array([row[key] for row in own])
            summed["measured"] = int(np.isfinite(values).sum())
            summed[key] = round(float(np.nanmean(values)), 4)
            summed[f"worst_{key}"] = round(float(np.nanmax(values)), 4)
        found.append(summed)
    return found
