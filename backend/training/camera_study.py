# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a model that is told the camera alone follow it? Two measures, each beside what chance would give.

Of what it makes: optical flow against the true flow, and whether a clip is nearest to the truth of its own move. Of
what it knows, which shows long before: whether its own move explains a clip better than the scene's other moves do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from ..models.vae import LinearCodec
from ..weights.embedded import FOLDER as CODEC_FOLDER
from .camera_only import CameraOnlyModel, camera_only_model, first_frame_and_path, latent_errors
from .checkpoint import TrainingState
from .clip_files import ClipSet, TrainingClip
from .config import RecipeConfig
from .guidance_study import (
    FEW,
    MANY,
    SHEET_SCENE,
    Setting,
    StudyScene,
    contact_sheet,
    figures,
    pictures,
    sampled,
)
from .loop import CHECKPOINT
from .moves import CANONICAL

# From pure noise, where a model has nothing but first frame and camera to go by, to little noise.
SIGMAS = (1.0, 0.7, 0.3)
SAMPLED = {
    "made in 12 steps": Setting(0.0, 0.0, MANY),
    "made in 4 steps": Setting(0.0, 0.0, FEW),
    "made in 1 step": Setting(0.0, 0.0, (1.0, 0.0)),
}
SHEET = ("truth", "made in 12 steps", "made in 1 step")
_EXPLAINED_HEADER = """\
| noise level | own move explains best | error told the own move | another | the opposite | own / opposite, dB |
|---|---|---|---|---|---|"""
_MADE_HEADER = """\
| clip | flow cosine | gain | own path |
|---|---|---|---|"""


@torch.no_grad()
def explained(
    model: CameraOnlyModel, codec: LinearCodec, clips: Sequence[TrainingClip], sigma: float, seed: int = 0
) -> Tensor:
    """How well each move of a scene explains each of its clips.

    Args:
        clips: M clips of one scene from the same first pose, each with a move of its own.
        sigma: noise level at which the model estimates the clean latents.

    Returns:
        (M, M) mean squared error of clip i's latents when the model is told the camera of clip j.
    """
    level = torch.tensor([sigma])
    rows = [
        [
            latent_errors(model, codec, [clip], level, Generator().manual_seed(seed), [told]).mean()
            for told in map(first_frame_and_path, clips)
        ]
        for clip in clips
    ]
    return torch.tensor(rows)


def own_best(errors: Tensor) -> float:
    """Share of the clips that their own move explains best; errors (N, M, M) of N scenes."""
    return float((errors.argmin(-1) == torch.arange(errors.shape[-1])).double().mean())


def study(config: RecipeConfig) -> Iterator[str]:
    """Tables of a run's averaged weights as far as it is trained; a sheet is written to the run's folder.

    Raises:
        FileNotFoundError: the run has no checkpoint yet.
    """
    folder = Path(config.folder)
    if not (folder / CHECKPOINT).exists():
        raise FileNotFoundError(f"there is no {folder / CHECKPOINT}; train camera-only first.")
    state = TrainingState(camera_only_model(config), config)
    state.resume(folder / CHECKPOINT)
    model = state.averaged_model().eval()
    codec = LinearCodec.load(CODEC_FOLDER / "codec.safetensors")
    clips, moves = ClipSet(config, "heldout"), len(CANONICAL)
    starts = range(0, len(clips), moves)
    scenes = [StudyScene.of([clips[start + move] for move in range(moves)], codec) for start in starts]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    yield (
        f"{parameters / 1e6:.2f} million parameters, step {state.step} of {config.steps}, {config.batch_clips} clips "
        f"each, {state.cpu_s / 3600:.1f} CPU hours; {len(clips)} held-out clips; chance is {1 / moves:.0%}"
    )
    yield _EXPLAINED_HEADER
    for sigma in SIGMAS:
        errors = torch.stack([explained(model, codec, scene.clips, sigma) for scene in scenes])
        yield _explained_row(sigma, errors)
    shown = {
        "truth": [torch.stack([clip.truth for clip in scene.clips]) for scene in scenes],
        "first frame, repeated": [
            torch.stack([clip.truth[:1].expand_as(clip.truth) for clip in scene.clips]) for scene in scenes
        ],
    }
    for name, setting in SAMPLED.items():
        shown[name] = [pictures(codec, sampled(model, codec, scene, setting)) for scene in scenes]
    yield _MADE_HEADER
    for name, made in shown.items():
        rows = [row for scene, clip in zip(scenes, made, strict=True) for row in figures(scene, clip)]
        cosine, gain, own = (np.mean([row[key] for row in rows]) for key in ("cosine", "gain", "identified"))
        yield f"| {name} | {cosine:.2f} | {gain:.2f} | {own:.0%} |"
    path = folder / "camera_sheet.jpg"
    contact_sheet([shown[name][SHEET_SCENE] for name in SHEET]).save(path, quality=88)
    yield f"{path}: rows {', '.join(SHEET)}; a pan and an orbit"


def _explained_row(sigma: float, errors: Tensor) -> str:
    """errors (N, M, M)."""
    moves = errors.shape[-1]
    own = errors.diagonal(dim1=1, dim2=2).mean()
    # CANONICAL holds each move beside its opposite.
    opposite = errors[:, torch.arange(moves), torch.arange(moves) ^ 1].mean()
    another = (errors.sum() - own * moves * len(errors)) / (errors.numel() - moves * len(errors))
    gain_db = 10 * torch.log10(opposite / own)
    return (
        f"| {sigma} | {own_best(errors):.0%} | {own:.4f} | {another:.4f} | {opposite:.4f} | {gain_db:.2f} |"
    )
