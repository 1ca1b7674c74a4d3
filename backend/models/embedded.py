# SPDX-License-Identifier: GPL-3.0-or-later
"""The model that ships with the extension: a small stage 1 that refines a depth reprojection.

The camera is followed by the projection of the first frame, not by the network. The network, of the same
classes as the released stage 1, predicts what to change in the projection's holes. It reads no prompt.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..conditioning.camera import camera_tokens, chunk_plucker
from ..protocol.camera_path import CameraPath
from .raster_clip import RasterClip
from .refiner import PixelFilter
from .stage1 import Conditioning, Stage1Config, Stage1Transformer
from .vae import LinearCodec
from .vae.linear_codec import CHANNELS, PATCH, STEP

# noisy latents | base latents | guide latents | visible share of 8 frames | nearness of 8 frames
IN_CHANNELS = 3 * CHANNELS + 2 * STEP
NULL_TEXT_CHANNELS = 8
PROJECTION_SCALE = 2
_FRAMES_AT_ONCE = 32


@dataclass(frozen=True)
class EmbeddedConfig:
    """Attributes:
    raster: (width, height) in pixels at which the network runs; clips of another shape get as many pixels.
    hidden_size, blocks, mlp_ratio: of the stage-1 network.
    filter_width: channels of the pixel filter.
    default_blend: recommended strength of the residual, 0..1; what the model card's gate allows.
    """

    raster: tuple[int, int] = (160, 88)
    hidden_size: int = 96
    blocks: int = 4
    mlp_ratio: float = 2.0
    filter_width: int = 32
    default_blend: float = 0.0

    def raster_for(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """The raster, in multiples of 8, for a clip of `image_size` (width, height) in pixels."""
        scale = math.sqrt(math.prod(self.raster) / math.prod(image_size))
        width, height = (max(PATCH, PATCH * round(scale * side / PATCH)) for side in image_size)
        return width, height

    @property
    def stage1(self) -> Stage1Config:
        return Stage1Config(
            in_channels=IN_CHANNELS,
            out_channels=CHANNELS,
            num_layers=self.blocks,
            hidden_size=self.hidden_size,
            head_dim=32,
            num_cross_heads=self.hidden_size // 32,
            mlp_ratio=self.mlp_ratio,
            caption_channels=NULL_TEXT_CHANNELS,
            softmax_in_bf16=False,
        )

    def to_record(self) -> dict[str, Any]:
        """A JSON object that `from_record` reads back."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> EmbeddedConfig:
        return cls(**{**record, "raster": tuple(record["raster"])})


@dataclass(frozen=True)
class EmbeddedConditioning:
    """Everything that stays the same over the steps of one clip.

    Attributes:
        clip: the raster clip, on the model's device.
        base_latents: (1, 128, T, h/8, w/8); its first latent is the clean first frame.
        channels: (1, 272, T, h/8, w/8), base, guide, visibility and nearness.
        stage1: camera, Plücker and null text.
    """

    clip: RasterClip
    base_latents: Tensor
    channels: Tensor
    stage1: Conditioning = field(repr=False)


class EmbeddedModel(nn.Module):
    """Codec, stage 1 and pixel filter.

    How a clip is made, frame by frame where it is large and at once where it is small:

        raster = model.config.raster_for(clip size)
        small = projection_size(raster)                           # a second, small projection: cheap, and the
        builder = RasterClipBuilder(raster)                       # one the network was trained with
        for frame in project(blockout, camera.fitted_to(small), first frame scaled to small, small):
            builder.add(frame.base, frame.guide, frame.visible, frame.inverse_depth, frame.is_sky)
        inputs = model.condition(builder.build(), camera)
        latents = sample(lambda x, t: model.velocity(x, t, inputs), noise like inputs.base_latents,
                         inputs.base_latents[:, :, :1], sigmas)
        residual = model.residual(latents, inputs)                # (F, 3, h, w)
        for i, frame in enumerate(project(...at the clip's size...)):
            finished = composite(
                frame.base, residual[i], inputs.clip.sky[i], frame.visible, frame.is_sky, network_blend
            )
    """

    def __init__(self, config: EmbeddedConfig) -> None:
        super().__init__()
        self.config = config
        self.codec = LinearCodec()
        self.stage1 = Stage1Transformer(config.stage1)
        self.filter = PixelFilter(config.filter_width)

    def condition(self, clip: RasterClip, path: CameraPath) -> EmbeddedConditioning:
        """Encode the clip and prepare the camera.

        Args:
            clip: 8k + 1 frames at the raster's size.
            path: the camera path of the same frames, for any image size of about the raster's shape.

        Raises:
            ValueError: the numbers of frames differ or are not 8k + 1.
        """
        if len(clip) != len(path):
            raise ValueError(f"The clip has {len(clip)} frames, but its camera path has {len(path)} samples.")
        device = self.codec.patch_mean.device
        clip = clip.to(device)
        camera, plucker = camera_inputs(path, clip)
        base = self.codec.encode(_as_video(clip.base))
        channels = condition_channels(self.codec, base, clip)
        text, mask = null_text(1, device)
        stage1 = self.stage1.condition(
            text, mask, camera[None].to(device), plucker[None].to(device), tuple(base.shape[2:])
        )
        return EmbeddedConditioning(clip, base, channels, stage1)

    def clean_latents(self, noisy: Tensor, timesteps: Tensor, conditioning: EmbeddedConditioning) -> Tensor:
        """The network's estimate of the clean latents, (1, 128, T, h/8, w/8).

        Args:
            noisy: like the result.
            timesteps: (1, 1, T), 0..1000.
        """
        inputs = torch.cat([noisy, conditioning.channels], dim=1)
        return conditioning.base_latents + self.stage1.denoise(inputs, timesteps, conditioning.stage1)

    def velocity(self, noisy: Tensor, timesteps: Tensor, conditioning: EmbeddedConditioning) -> Tensor:
        """noise - data, as the shared sampler integrates it; arguments as for `clean_latents`."""
        clean = self.clean_latents(noisy, timesteps, conditioning)
        sigma = (timesteps / 1000).unsqueeze(-1).unsqueeze(-1).clamp(min=1e-3)
        return (noisy - clean) / sigma

    def residual(self, latents: Tensor, conditioning: EmbeddedConditioning) -> Tensor:
        """(F, 3, h, w), what to add to the base in its holes, from the sampled latents."""
        clip = conditioning.clip
        difference = self.codec.decode_difference(latents - conditioning.base_latents)[0].transpose(0, 1)
        nearness = clip.nearness
        return torch.cat(
            [
                self.filter(
                    difference[part], clip.base[part], clip.guide[part], clip.visible[part], nearness[part]
                )
                for part in (
                    slice(start, start + _FRAMES_AT_ONCE) for start in range(0, len(clip), _FRAMES_AT_ONCE)
                )
            ]
        )


def projection_size(raster: tuple[int, int]) -> tuple[int, int]:
    """(width, height) at which clips are projected for the network, then averaged to the raster, so that edges
    come out smooth."""
    return (PROJECTION_SCALE * raster[0], PROJECTION_SCALE * raster[1])


def camera_inputs(path: CameraPath, clip: RasterClip) -> tuple[Tensor, Tensor]:
    """Camera tokens (T, 20) and Plücker chunks (48, T, h/8, w/8) with offsets in the clip's unit."""
    height, width = clip.base.shape[-2:]
    c2w = path.c2w.copy()
    c2w[:, :3, 3] /= clip.unit_m
    fitted = CameraPath(c2w, path.intrinsics, path.image_size).fitted_to((width, height))
    grid = ((len(path) - 1) // STEP + 1, height // PATCH, width // PATCH)
    return camera_tokens(fitted, grid), chunk_plucker(fitted, grid)


def condition_channels(codec: LinearCodec, base_latents: Tensor, clip: RasterClip) -> Tensor:
    """(1, 272, T, h/8, w/8): base latents, guide latents, visibility, nearness."""
    guide = codec.encode(_as_video(clip.guide))
    return torch.cat([base_latents, guide, _per_step(clip.visible), _per_step(clip.nearness)], dim=1)


def null_text(batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The one constant token that stands for every prompt, and its mask."""
    return torch.ones(batch, 1, 1, NULL_TEXT_CHANNELS, device=device), torch.ones(batch, 1, device=device)


def _as_video(frames: Tensor) -> Tensor:
    """(F, C, h, w) -> (1, C, F, h, w)."""
    return frames.transpose(0, 1)[None]


def _per_step(planes: Tensor) -> Tensor:
    """(8k + 1, 1, h, w) -> (1, 8, k + 1, h/8, w/8): token means; frame 0 stands for all eight of its step."""
    cells = functional.avg_pool2d(planes, PATCH)[:, 0]
    first = cells[:1].expand(STEP, -1, -1)[:, None]
    rest = cells[1:].unflatten(0, (-1, STEP)).transpose(0, 1)
    return torch.cat([first, rest], dim=1)[None]
