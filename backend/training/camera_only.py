# SPDX-License-Identifier: GPL-3.0-or-later
"""Recipe: a small model that knows first frame and camera alone, as the released one does, and no geometry.

It is made to study blockout guidance and does not ship: at this size and after this little training it does not
follow its camera by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from ..models.embedded import EmbeddedConfig, camera_inputs, null_text, path_in_units
from ..models.stage1 import Conditioning, Stage1Config, Stage1Transformer
from ..models.vae import LinearCodec
from ..models.vae.linear_codec import CHANNELS
from ..protocol.camera_path import CameraPath
from ..weights.embedded import FOLDER as CODEC_FOLDER
from .augment import AugmentedClips
from .checkpoint import TrainingState
from .clip_files import ClipSet, TrainingClip
from .config import RecipeConfig
from .loop import Recipe, lines, noise_levels, run

WEIGHTS = "camera_only.safetensors"
LOW_NOISE_VARIANCE = 0.15
FIGURE_SIGMAS = (1.0, 0.7, 0.3)


class CameraOnlyModel(nn.Module):
    """Stage 1 on the noisy latents and the first frame's, repeated.

    The network is narrower than its latents, so these pass it by: untrained, the estimate is the best linear one for
    clips that differ from their first frame by noise of a learned spread in each channel.
    """

    def __init__(self, hidden_size: int = 64, blocks: int = 4, mlp_ratio: float = 1.5) -> None:
        super().__init__()
        sizes = EmbeddedConfig(hidden_size=hidden_size, blocks=blocks, mlp_ratio=mlp_ratio).stage1
        self.stage1 = Stage1Transformer(Stage1Config(**{**vars(sizes), "in_channels": 2 * CHANNELS}))
        self.log_spread = nn.Parameter(torch.full((CHANNELS,), -0.5))

    def clean_latents(
        self, noisy: Tensor, timesteps: Tensor, base: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """The estimate of the clean latents.

        Args:
            noisy: (B, 128, T, h, w).
            timesteps: (B, 1, T), 0..1000.
            base: (B, 128, T, h, w), latents of the repeated first frame.
            conditioning: camera, Plücker and null text.
        """
        change = self.stage1.denoise(torch.cat([noisy, base], dim=1), timesteps, conditioning)
        sigma = (timesteps / 1000)[..., None, None]
        spread = self.log_spread.exp()[:, None, None, None]
        variance = ((1 - sigma) * spread).square() + sigma.square() + 1e-6
        linear = (1 - sigma) * spread.square() / variance * (noisy - (1 - sigma) * base)
        return base + linear + sigma * spread / variance.sqrt() * change

    def velocity(self, noisy: Tensor, timesteps: Tensor, base: Tensor, conditioning: Conditioning) -> Tensor:
        """noise - data, as the samplers integrate it; arguments as for `clean_latents`."""
        clean = self.clean_latents(noisy, timesteps, base, conditioning)
        return (noisy - clean) / (timesteps / 1000)[..., None, None].clamp(min=1e-3)


def conditioned(
    model: CameraOnlyModel, codec: LinearCodec, clips: list[tuple[Tensor, CameraPath]]
) -> tuple[Tensor, Conditioning]:
    """What stays the same over the steps of clips of one size.

    Args:
        clips: first frames (3, H, W) and camera paths, whose offsets are in the clip's unit.

    Returns:
        Base latents (B, 128, T, H/8, W/8) and the conditioning of stage 1.
    """
    bases, cameras, pluckers = [], [], []
    for first, path in clips:
        still = first[None, :, None].expand(-1, -1, len(path), -1, -1)
        bases.append(codec.encode(still)[0])
        camera, plucker = camera_inputs(path)
        cameras.append(camera)
        pluckers.append(plucker)
    base = torch.stack(bases)
    inputs = torch.stack(cameras), torch.stack(pluckers)
    text, mask = null_text(len(clips), base.device)
    return base, model.stage1.condition(text, mask, *inputs, tuple(base.shape[2:]))


def first_frame_and_path(clip: TrainingClip) -> tuple[Tensor, CameraPath]:
    """What the model is told of a clip; the unit of length is the one thing taken from the geometry."""
    return clip.truth[0], path_in_units(clip.path, clip.projection)


def train(config: RecipeConfig, until_step: int | None = None) -> Iterator[str]:
    """Train to the end, or to `until_step`, from the last checkpoint if there is one; yields progress lines.

    At the end the averaged weights are written to WEIGHTS in the run's folder.
    """
    torch.manual_seed(config.seed)
    model = CameraOnlyModel(config.hidden_size, config.blocks, config.mlp_ratio)
    codec = LinearCodec.load(CODEC_FOLDER / "codec.safetensors")
    heldout = ClipSet(config, "heldout")
    state = TrainingState(model, config)
    recipe = Recipe(
        lambda step: {"loss": lambda batch, generator: batch_loss(model, codec, batch, config, generator)},
        lambda averaged: _figures(averaged, codec, heldout),
    )
    yield from lines(run(state, recipe, AugmentedClips(config), config, until_step))
    if state.step == config.steps:
        save_camera_only(state.averaged_model(), Path(config.folder) / WEIGHTS)
        yield f"written to {Path(config.folder) / WEIGHTS}"


def batch_loss(
    model: CameraOnlyModel,
    codec: LinearCodec,
    batch: list[TrainingClip],
    config: RecipeConfig,
    generator: Generator,
) -> Tensor:
    """Error of the clean latents, weighed by how well they can be known."""
    sigma = noise_levels(len(batch), config.one_step_share, generator)
    squares = _errors(model, codec, batch, sigma, generator).mean((1, 2, 3, 4))
    return (squares / (sigma.square() + LOW_NOISE_VARIANCE)).mean()


def save_camera_only(model: CameraOnlyModel, path: Path) -> None:
    """Write the weights in half precision."""
    save_file({name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}, path)


def load_camera_only(path: Path) -> CameraOnlyModel:
    """The model of a weights file, float32, in evaluation mode."""
    model = CameraOnlyModel()
    model.load_state_dict(load_file(path))
    return model.float().eval().requires_grad_(False)


def _errors(
    model: CameraOnlyModel, codec: LinearCodec, batch: list[TrainingClip], sigma: Tensor, generator: Generator
) -> Tensor:
    """(B, 128, T - 1, h, w) squares, behind the given frame."""
    with torch.no_grad():
        clean = codec.encode(torch.stack([clip.truth for clip in batch]).transpose(1, 2))
        noise = torch.randn(clean.shape, generator=generator)
        level = sigma[:, None, None, None, None]
        noisy = (1 - level) * clean + level * noise
        noisy[:, :, :1] = clean[:, :, :1]
        timesteps = (1000 * sigma)[:, None, None].repeat(1, 1, clean.shape[2])
        timesteps[..., 0] = 0
    base, conditioning = conditioned(model, codec, [first_frame_and_path(clip) for clip in batch])
    return (model.clean_latents(noisy, timesteps, base, conditioning) - clean)[:, :, 1:].square()


@torch.no_grad()
def _figures(model: CameraOnlyModel, codec: LinearCodec, clips: ClipSet) -> dict[str, float]:
    """Mean latent error of a few held-out clips at some noise levels."""
    chosen = [clips[index] for index in range(0, len(clips), max(1, len(clips) // 12))]
    rows = {}
    for sigma in FIGURE_SIGMAS:
        generator = Generator().manual_seed(0)
        errors = [_errors(model, codec, [c], torch.tensor([sigma]), generator).mean() for c in chosen]
        rows[f"error_at_{sigma}"] = round(float(torch.stack(errors).mean()), 4)
    return rows
