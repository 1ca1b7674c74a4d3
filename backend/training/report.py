# SPDX-License-Identifier: GPL-3.0-or-later
"""The model card's figures: the held-out clips made in every way, the network's gate, and sheets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..models.embedded import EmbeddedModel, RasterClip
from ..projection.fill import spread
from .clip_files import ClipSet, TrainingClip
from .config import RecipeConfig
from .evaluate import identified, in_holes, residual_of, score
from .moves import CANONICAL

METHODS = ("repeat first frame", "warp + blur fill", "guided fill", "network, no filter", "network + filter")
BASE, FINAL = METHODS[2], METHODS[4]
GATE_DB = 0.7
LOW_BLEND = 0.25
STRENGTHS = (LOW_BLEND, 0.5, 0.75, 1.0)
SHEETS = 12


def heldout_report(config: RecipeConfig, model: EmbeddedModel) -> Iterator[str]:
    """Make every held-out clip in every way; writes `card.json` and `sheet_NN.png`, yields lines.

    The scenes' clips must lie together in the set, one for each canonical move.
    """
    folder, clips = Path(config.folder), ClipSet(config, "heldout")
    rows: list[dict] = []
    strengths: list[dict[float, float]] = []
    for start in range(0, len(clips), len(CANONICAL)):
        scene = [clips[index] for index in range(start, start + len(CANONICAL))]
        for number, clip in enumerate(scene, start=start):
            filtered, decoded = residual_of(model, clip.projection, clip.path)
            pictures = _all_ways(clip.projection, filtered, decoded)
            for method, picture in pictures.items():
                result = score(picture, clip.truth, clip.projection.visible)
                row = {"move": clip.move, "method": method, "whole": result.whole, "holes": result.holes}
                rows.append({**row, "identified": identified(picture, scene, clip.move)})
            strengths.append({s: _holes(clip, in_holes(clip.projection, filtered, s)) for s in STRENGTHS})
            if number % max(1, len(clips) // SHEETS) == 0:
                _sheet(clip, pictures, folder / f"sheet_{number:02d}.png")
        yield f"{start + len(scene)} of {len(clips)} clips"
    card = {
        "table": _table(rows),
        "moves": _by_move(rows),
        "gate": _gate(rows),
        "strengths": _means(strengths),
    }
    card["default_blend"] = _default_blend(card)
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    yield json.dumps(card, indent=2)


def _all_ways(seen: RasterClip, filtered: Tensor, decoded: Tensor) -> dict[str, Tensor]:
    """(F, 3, h, w) by method, from the network's residual after and before its filter."""
    made = (
        seen.base[:1].expand_as(seen.base),
        _blurred(seen),
        seen.base,
        in_holes(seen, decoded),
        in_holes(seen, filtered),
    )
    return dict(zip(METHODS, made, strict=True))


def _blurred(seen: RasterClip) -> Tensor:
    """The visible part spread over the holes, without a guide."""
    frames = []
    for base, visible in zip(seen.base, seen.visible, strict=True):
        color, known = base.permute(1, 2, 0).numpy(), visible[0].numpy()
        filled = spread(np.ascontiguousarray(color), np.ascontiguousarray(known))
        frames.append(color * known[..., None] + filled * (1 - known[..., None]))
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


def _holes(clip: TrainingClip, picture: Tensor) -> float:
    return score(picture, clip.truth, clip.projection.visible).holes


def _mean(rows: list[dict], key: str) -> float:
    values = [row[key] for row in rows]
    return round(float(np.nanmean(values)), 2) if np.isfinite(values).any() else float("nan")


def _table(rows: list[dict]) -> dict[str, dict[str, float]]:
    return {
        method: {
            key: _mean([r for r in rows if r["method"] == method], key)
            for key in ("whole", "holes", "identified")
        }
        for method in METHODS
    }


def _by_move(rows: list[dict]) -> dict[str, dict[str, float]]:
    return {
        move: {
            method: _mean([r for r in rows if r["move"] == move and r["method"] == method], "holes")
            for method in (BASE, FINAL)
        }
        for move in CANONICAL
    }


def _gate(rows: list[dict]) -> dict[str, float | bool]:
    """On by default only if the holes gain enough and no kind of move loses."""
    table, moves = _table(rows), _by_move(rows)
    gain = round(table[FINAL]["holes"] - table[BASE]["holes"], 2)
    worst = round(min(figures[FINAL] - figures[BASE] for figures in moves.values()), 2)
    pairs = zip(
        (r["holes"] for r in rows if r["method"] == FINAL),
        (r["holes"] for r in rows if r["method"] == BASE),
        strict=True,
    )
    gains = np.array([after - before for after, before in pairs])
    gains = gains[np.isfinite(gains)]
    return {
        "holes_gain_db": gain,
        "worst_move_gain_db": worst,
        "clips_better": round(float((gains > 0).mean()), 2),
        "tenth_percentile_db": round(float(np.percentile(gains, 10)), 2),
        "passed": gain >= GATE_DB and worst >= 0,
    }


def _default_blend(card: dict) -> float:
    """1 behind the gate; low where the network does at least no harm; else 0."""
    if card["gate"]["passed"]:
        return 1.0
    harmless = card["strengths"][str(LOW_BLEND)] >= card["table"][BASE]["holes"]
    return LOW_BLEND if harmless else 0.0


def _means(strengths: list[dict[float, float]]) -> dict[str, float]:
    return {str(s): round(float(np.nanmean([row[s] for row in strengths])), 2) for s in STRENGTHS}


def _sheet(clip: TrainingClip, pictures: dict[str, Tensor], path: Path) -> None:
    """Rows: visible part, guided fill, network and filter, truth; columns: four times along the clip."""
    columns = [len(clip.truth) * n // 4 for n in (1, 2, 3)] + [len(clip.truth) - 1]
    seen = clip.projection.base * clip.projection.visible
    rows = (seen, pictures[BASE], pictures[FINAL], clip.truth)
    image = torch.cat([torch.cat([row[column] for column in columns], dim=2) for row in rows], dim=1)
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    sheet = Image.fromarray(pixels)
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(path)
