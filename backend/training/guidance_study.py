# SPDX-License-Identifier: GPL-3.0-or-later
"""What blockout guidance does for a model that does not follow its camera by itself: a table and a sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from ..models.vae import LinearCodec
from ..models.vae.linear_codec import PATCH
from ..sampling.blockout_guidance import BlockoutGuidance, seen_cells
from ..sampling.flow_euler import sample, sigma_schedule
from ..weights.embedded import FOLDER as CODEC_FOLDER
from .camera_following import following
from .camera_only import WEIGHTS, CameraOnlyModel, conditioned, first_frame_and_path, load_camera_only
from .clip_files import ClipSet, TrainingClip
from .config import RecipeConfig
from .evaluate import identified

STEPS = 12
SHEET_SCENE, SHEET_FRAMES = 0, (0, 8, 16, 24)


@dataclass(frozen=True)
class Setting:
    """Strength and end of the guidance, and the noise levels of the sampler."""

    strength: float
    end_sigma: float
    sigmas: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class StudyScene:
    """Clips of one scene, one for each canonical move, ready to be sampled.

    Attributes:
        clips: truth, projection and path of each.
        preview: (B, 128, T, h/8, w/8), latents of the projections.
        seen: (B, 1, T, h/8, w/8) bool.
    """

    clips: Sequence[TrainingClip]
    preview: Tensor
    seen: Tensor

    @classmethod
    def of(cls, clips: Sequence[TrainingClip], codec: LinearCodec) -> StudyScene:
        projected = torch.stack([clip.projection.base for clip in clips]).transpose(1, 2)
        seen = [seen_cells(clip.projection.visible, PATCH, begins=True) for clip in clips]
        return cls(clips, codec.encode(projected), torch.cat(seen))


@torch.no_grad()
def sampled(
    model: CameraOnlyModel, codec: LinearCodec, scene: StudyScene, setting: Setting, seed: int = 0
) -> Tensor:
    """Latents (B, 128, T, h/8, w/8) of all clips of a scene."""
    base, conditioning = conditioned(model, codec, [first_frame_and_path(clip) for clip in scene.clips])
    noise = torch.randn(base.shape, generator=Generator().manual_seed(seed))

    def preview(frames: slice) -> tuple[Tensor, Tensor]:
        return scene.preview[:, :, frames], scene.seen[:, :, frames]

    return sample(
        lambda latents, timesteps: model.velocity(latents, timesteps, base, conditioning),
        noise,
        base[:, :, :1],
        setting.sigmas,
        guidance=BlockoutGuidance(preview, setting.strength, setting.end_sigma),
    )


def pictures(codec: LinearCodec, latents: Tensor) -> Tensor:
    """(B, F, 3, h, w), 0..1."""
    return codec.decode(latents).transpose(1, 2).clamp(0, 1)


def figures(scene: StudyScene, made: Tensor) -> list[dict[str, float]]:
    """Of each clip of a scene, from its picture (F, 3, h, w): the motion, and whether it shows its own move."""
    rows = []
    for clip, picture in zip(scene.clips, made, strict=True):
        measured = following(picture, clip)
        own = identified(picture, scene.clips, clip.move)
        rows.append({"cosine": measured.cosine, "gain": measured.gain, "identified": float(own)})
    return rows


def distance(one: Tensor, other: Tensor, cells: Tensor) -> Tensor:
    """(B,) root mean square difference of pictures (B, F, 3, h, w) in latent cells (B, 1, T, h/8, w/8)."""
    pixels = cells.repeat_interleave(PATCH, 3).repeat_interleave(PATCH, 4)[:, 0]
    frames = torch.cat([pixels[:, :1], pixels[:, 1:].repeat_interleave(8, 1)], dim=1)[:, :, None]
    squares = (one - other).square().mean(2, keepdim=True) * frames
    return (squares.sum((1, 2, 3, 4)) / frames.sum((1, 2, 3, 4)).clamp(min=1)).sqrt()


def settings() -> dict[str, Setting]:
    """The rows of the table."""
    sigmas = tuple(sigma_schedule(STEPS))
    return {
        "unguided": Setting(0.0, 1.0, sigmas),
        "guided, strength 1": Setting(1.0, 0.0, sigmas),
        "guided, strength 0.5": Setting(0.5, 0.0, sigmas),
        "guided to sigma 0.3": Setting(1.0, 0.3, sigmas),
    }


def study(config: RecipeConfig) -> Iterator[str]:
    """The table over all held-out scenes, and the sheet of one of them, in the run's folder."""
    folder = Path(config.folder)
    model = load_camera_only(folder / WEIGHTS)
    codec = LinearCodec.load(CODEC_FOLDER / "codec.safetensors")
    scenes = [StudyScene.of(clips, codec) for clips in _by_scene(ClipSet(config, "heldout"))]
    made = {
        "truth": [torch.stack([clip.truth for clip in scene.clips]) for scene in scenes],
        "preview": [pictures(codec, scene.preview) for scene in scenes],
    }
    yield "| clip | flow cosine | flow gain | own path | from preview, seen | from preview, unseen |"
    yield "|---|---|---|---|---|---|"
    for name in (*made, *settings()):
        if name not in made:
            setting = settings()[name]
            made[name] = [pictures(codec, sampled(model, codec, scene, setting)) for scene in scenes]
        rows = [
            row for scene, picture in zip(scenes, made[name], strict=True) for row in figures(scene, picture)
        ]
        cosine, gain, own = (np.mean([row[key] for row in rows]) for key in ("cosine", "gain", "identified"))
        seen, unseen = (
            torch.cat(
                [
                    distance(p, q, cells(s))
                    for s, p, q in zip(scenes, made[name], made["preview"], strict=True)
                ]
            )
            for cells in (lambda scene: scene.seen, lambda scene: ~scene.seen)
        )
        yield f"| {name} | {cosine:.2f} | {gain:.2f} | {own:.0%} | {seen.mean():.3f} | {unseen.mean():.3f} |"
    _sheet(
        {name: made[name][SHEET_SCENE] for name in ("truth", "unguided", "guided, strength 1", "preview")}
    ).save(folder / "sheet.png")
    yield f"pictures: {folder / 'sheet.png'}; rows: truth, unguided, guided, preview; two moves beside each other"


def _by_scene(clips: ClipSet) -> list[list[TrainingClip]]:
    listed = [clips[index] for index in range(len(clips))]
    moves = len({clip.move for clip in listed})
    return [listed[start : start + moves] for start in range(0, len(listed), moves)]


def _sheet(rows: dict[str, Tensor]) -> Image.Image:
    """One row for each kind of clip: a pan and an orbit, at SHEET_FRAMES."""
    lines = []
    for picture in rows.values():
        cells = [picture[move][frame] for move in (0, 4) for frame in SHEET_FRAMES]
        lines.append(torch.cat(cells, dim=2))
    pixels = (torch.cat(lines, dim=1).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((pixels.shape[1] * 3 // 2, pixels.shape[0] * 3 // 2), Image.LANCZOS)
