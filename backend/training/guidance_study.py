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
from ..sampling.blockout_guidance import SEEN_SHARE, BlockoutGuidance, Preview, seen_cells
from ..sampling.flow_euler import sample, sigma_schedule
from ..sampling.self_forcing import RELEASED_STEP_LIST
from ..weights.embedded import FOLDER as CODEC_FOLDER
from .camera_following import following
from .camera_only import WEIGHTS, CameraOnlyModel, conditioned, first_frame_and_path, load_camera_only
from .clip_files import ClipSet, TrainingClip
from .config import RecipeConfig
from .evaluate import identified
from .moves import CANONICAL

# As many steps as a thorough sampler of so small a model needs, and the few of the released student.
MANY = tuple(sigma_schedule(12))
FEW = tuple(step / 1000 for step in RELEASED_STEP_LIST)
# Which scene and moves the sheet shows, a pan to the left and an orbit to the right, at three times of each clip.
SHEET_SCENE, SHEET_MOVES = 0, (0, 5)


@dataclass(frozen=True)
class Setting:
    """Strength and end of the guidance, the noise levels of the sampler, and what counts as seen."""

    strength: float
    end_sigma: float
    sigmas: tuple[float, ...] = MANY
    seen_share: float = SEEN_SHARE


@dataclass(frozen=True, eq=False)
class StudyScene:
    """Clips of one scene, one for each canonical move, ready to be sampled.

    Attributes:
        clips: truth, projection and path of each.
        preview: (B, 128, T, h/8, w/8), latents of the projections.
    """

    clips: Sequence[TrainingClip]
    preview: Tensor

    @classmethod
    def of(cls, clips: Sequence[TrainingClip], codec: LinearCodec) -> StudyScene:
        projected = torch.stack([clip.projection.base for clip in clips]).transpose(1, 2)
        return cls(clips, codec.encode(projected))

    def seen(self, share: float = SEEN_SHARE) -> Tensor:
        """(B, 1, T, h/8, w/8) bool."""
        cells = [seen_cells(clip.projection.visible, PATCH, begins=True, share=share) for clip in self.clips]
        return torch.cat(cells)


@torch.no_grad()
def sampled(
    model: CameraOnlyModel, codec: LinearCodec, scene: StudyScene, setting: Setting, seed: int = 0
) -> Tensor:
    """Latents (B, 128, T, h/8, w/8) of all clips of a scene."""
    base, conditioning = conditioned(model, codec, [first_frame_and_path(clip) for clip in scene.clips])
    noise = torch.randn(base.shape, generator=Generator().manual_seed(seed))

    cells = scene.seen(setting.seen_share)

    def preview(frames: slice) -> Preview:
        return scene.preview[:, :, frames], cells[:, :, frames]

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
        own = identified(picture, scene.clips, clip.move)
        rows.append({**vars(following(picture, clip)), "identified": float(own)})
    return rows


def distance(one: Tensor, other: Tensor, cells: Tensor) -> Tensor:
    """(B,) root mean square difference of pictures (B, F, 3, h, w) in latent cells (B, 1, T, h/8, w/8)."""
    pixels = cells.repeat_interleave(PATCH, 3).repeat_interleave(PATCH, 4)[:, 0]
    frames = torch.cat([pixels[:, :1], pixels[:, 1:].repeat_interleave(8, 1)], dim=1)[:, :, None]
    squares = (one - other).square().mean(2, keepdim=True) * frames
    return (squares.sum((1, 2, 3, 4)) / frames.sum((1, 2, 3, 4)).clamp(min=1)).sqrt()


SETTINGS = {
    "unguided": Setting(0.0, 0.0),
    "unguided, 1 step: no noise is left in it": Setting(0.0, 0.0, (1.0, 0.0)),
    "unguided, the student's 4 steps": Setting(0.0, 0.0, FEW),
    "strength 1, to 0": Setting(1.0, 0.0),
    "strength 1, to 0, cells seen to 90 %": Setting(1.0, 0.0, seen_share=0.9),
    "strength 0.5, to 0": Setting(0.5, 0.0),
    "strength 1, to 0.3": Setting(1.0, 0.3),
    "strength 1, to 0, the student's 4 steps": Setting(1.0, 0.0, FEW),
}
SHEET = ("truth", "unguided", "strength 1, to 0", "preview")
HEADER = """\
| clip | flow cosine | gain | cosine, all pixels | own path | off preview, seen | unseen | off unguided, unseen |
|---|---|---|---|---|---|---|---|"""


def study(config: RecipeConfig) -> Iterator[str]:
    """The table over all held-out scenes; the sheet of one of them is written to the run's folder.

    Distances are root mean square differences of sRGB values 0..1, over the cells that the first frame shows or
    does not show.
    """
    folder = Path(config.folder)
    model = load_camera_only(folder / WEIGHTS)
    codec = LinearCodec.load(CODEC_FOLDER / "codec.safetensors")
    clips = ClipSet(config, "heldout")
    moves = len(CANONICAL)
    starts = range(0, len(clips), moves)
    scenes = [StudyScene.of([clips[start + move] for move in range(moves)], codec) for start in starts]
    previews = [pictures(codec, scene.preview) for scene in scenes]
    truths = [torch.stack([clip.truth for clip in scene.clips]) for scene in scenes]
    made = {"truth": truths, "preview": previews}
    for name, setting in SETTINGS.items():
        made[name] = [pictures(codec, sampled(model, codec, scene, setting)) for scene in scenes]
        yield f"{name}: {len(scenes)} scenes"
    yield HEADER
    for name, shown in made.items():
        yield _row(name, scenes, shown, previews, made["unguided"])
    path = folder / "sheet.jpg"
    contact_sheet([made[name][SHEET_SCENE] for name in SHEET]).save(path, quality=88)
    yield f"{path}: rows {', '.join(SHEET)}; a pan and an orbit"


def _row(
    name: str,
    scenes: Sequence[StudyScene],
    shown: Sequence[Tensor],
    previews: Sequence[Tensor],
    unguided: Sequence[Tensor],
) -> str:
    rows = [row for scene, picture in zip(scenes, shown, strict=True) for row in figures(scene, picture)]
    cosine, gain, everywhere, own = (np.mean([row[key] for row in rows]) for key in rows[0])
    seen, unseen, changed = (
        torch.cat(
            [
                distance(picture, wanted, scene.seen() == inside)
                for scene, picture, wanted in zip(scenes, shown, other, strict=True)
            ]
        ).mean()
        for other, inside in ((previews, True), (previews, False), (unguided, False))
    )
    motion = f"{cosine:.2f} | {gain:.2f} | {everywhere:.2f} | {own:.0%}"
    return f"| {name} | {motion} | {seen:.3f} | {unseen:.3f} | {changed:.3f} |"


def contact_sheet(rows: Sequence[Tensor]) -> Image.Image:
    """One row for each kind of clip (B, F, 3, h, w)."""
    last = rows[0].shape[1] - 1
    frames = [last * third // 3 for third in (1, 2, 3)]
    lines = [
        torch.cat([clips[move][frame] for move in SHEET_MOVES for frame in frames], dim=2) for clips in rows
    ]
    pixels = (torch.cat(lines, dim=1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    sheet = Image.fromarray(pixels)
    return sheet.resize((3 * sheet.width // 2, 3 * sheet.height // 2), Image.Resampling.LANCZOS)
