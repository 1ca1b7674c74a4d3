# SPDX-License-Identifier: GPL-3.0-or-later
"""The model that ships with the extension: a small stage 1 that refines a depth reprojection.

The camera is followed by the projection of the first frame, not by the network. The network, of the same
classes as the released stage 1, predicts what to change in the projection's holes. It reads no prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...conditioning.camera import camera_tokens, chunk_plucker, pixel_frames
from ...protocol.camera_path import CameraPath
from ..stage1 import Carry, Conditioning, Stage1Config, Stage1Transformer
from ..vae import LinearCodec
from ..vae.linear_codec import CHANNELS, PATCH, STEP
from .composite import away_from_sky_line
from .pixel_filter import PixelFilter
from .raster_clip import RasterClip
from .velocity import velocity

# noisy latents | base latents | guide latents | visible share of 8 frames | nearness of 8 frames
IN_CHANNELS = 3 * CHANNELS + 2 * STEP
NULL_TEXT_CHANNELS = 8
PROJECTION_SCALE = 2


@dataclass(frozen=True)
class EmbeddedConfig:
    """Sizes of the embedded model, and what its card says of it.

    Attributes:
        raster: (width, height) in pixels at which the network runs; clips of another shape get as many pixels.
        hidden_size, blocks, mlp_ratio: of the stage-1 network.
        filter_width: channels of the pixel filter.
        default_blend: recommended strength of the residual, 0..1; what the model card's gate allows.
        trained_variants: the ways of looking at time that the network was trained in; it runs in all of them.
    """

    raster: tuple[int, int] = (160, 88)
    hidden_size: int = 96
    blocks: int = 4
    mlp_ratio: float = 2.0
    filter_width: int = 32
    default_blend: float = 0.0
    trained_variants: tuple[str, ...] = ("bidirectional",)

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
        lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
        return cls(**{**record, **lists})


@dataclass(frozen=True)
class EmbeddedConditioning:
    """Everything that stays the same over the steps of one clip, or of one chunk of it.

    Attributes:
        clip: the frames of these latents, on the model's device.
        latents: which of the clip's latent frames these are.
        base_latents: (1, 128, T, h/8, w/8); the clip's first latent is its clean first frame.
        channels: (1, 272, T, h/8, w/8), base, guide, visibility and nearness.
        stage1: camera, Plücker and null text.
        path: of the whole clip, for the raster, with offsets in the clip's unit.
    """

    clip: RasterClip
    latents: slice
    path: CameraPath = field(repr=False)
    base_latents: Tensor
    channels: Tensor
    stage1: Conditioning = field(repr=False)


class EmbeddedModel(nn.Module):
    """Codec, stage 1 and pixel filter.

    The network looks at a small projection of the clip (`condition`), says what to change in it (`velocity`, for
    one of the samplers), `difference` decodes the sampled latents, and `residual` makes of it a change of finer
    pixels, which is composited into the clip at its full size. All of this works for a whole clip and, with a carry,
    chunk by chunk.
    """

    def __init__(self, config: EmbeddedConfig) -> None:
        super().__init__()
        self.config = config
        self.codec = LinearCodec()
        self.stage1 = Stage1Transformer(config.stage1)
        self.filter = PixelFilter(config.filter_width)

    def condition(
        self,
        clip: RasterClip,
        path: CameraPath,
        chunks: Sequence[slice] | None = None,
        after: EmbeddedConditioning | None = None,
    ) -> EmbeddedConditioning:
        """Encode frames and prepare their camera.

        Args:
            clip: the frames of these chunks at the raster's size.
            path: the camera path of the whole clip, for any image size of about the raster's shape.
            chunks: of the clip's latent frames, in order and without gaps; None for all in one chunk.
            after: of earlier chunks of the same clip; what it shares with these is not made again.

        Raises:
            ValueError: the clip has other frames than these.
        """
        whole = slice(0, (len(path) - 1) // STEP + 1)
        chunks = [whole] if chunks is None else chunks
        latents = slice(chunks[0].start, chunks[-1].stop)
        frames = pixel_frames(latents)
        if len(clip) != frames.stop - frames.start or (latents == whole and len(clip) != len(path)):
            raise ValueError(
                f"The clip has {len(clip)} frames, but its camera path has {len(path)} samples, of which latents "
                f"{latents.start} to {latents.stop - 1} hold {frames.stop - frames.start}."
            )
        device = self.codec.patch_mean.device
        clip = clip.to(device)
        path = path_in_units(path, clip) if after is None else after.path
        camera, plucker = camera_inputs(path, latents)
        base = encoded(self.codec, clip.base, begins=latents.start == 0)
        stage1 = self.stage1.condition_frames(
            self.stage1.condition_blocks(*null_text(1, device)) if after is None else after.stage1.blocks,
            camera[None].to(device),
            plucker[None].to(device),
            tuple(base.shape[2:]),
            tuple(chunk.start - latents.start for chunk in chunks),
            latents.start,
        )
        channels = condition_channels(self.codec, base, clip, begins=latents.start == 0)
        return EmbeddedConditioning(clip, latents, path, base, channels, stage1)

    def clean_latents(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        conditioning: EmbeddedConditioning,
        carry: Carry | None = None,
        save: bool = False,
    ) -> Tensor:
        """The network's estimate of the clean latents, (1, 128, T, h/8, w/8).

        Args:
            noisy: the same; the first chunks of the conditioning are enough.
            timesteps: (1, 1, T), 0..1000.
            conditioning: from `condition`.
            carry, save: see `Stage1Transformer.denoise`.
        """
        frames, stage1 = noisy.shape[2], conditioning.stage1
        if frames < stage1.grid[0]:
            stage1 = stage1.first_chunks(sum(chunk.stop <= frames for chunk in stage1.chunks))
        inputs = torch.cat([noisy, conditioning.channels[:, :, :frames]], dim=1)
        change = self.stage1.denoise(inputs, timesteps, stage1, carry, save)
        return conditioning.base_latents[:, :, :frames] + change

    def velocity(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        conditioning: EmbeddedConditioning,
        carry: Carry | None = None,
    ) -> Tensor:
        """noise - data, as the samplers integrate it; arguments as for `clean_latents`."""
        return velocity(noisy, self.clean_latents(noisy, timesteps, conditioning, carry), timesteps)

    def difference(self, latents: Tensor, conditioning: EmbeddedConditioning, chunk: slice) -> Tensor:
        """(F, 3, h, w), what the sampled latents of a chunk change in the base, at the raster."""
        first = conditioning.latents.start
        base = conditioning.base_latents[:, :, chunk.start - first : chunk.stop - first]
        decoded, _ = self.codec.decode_difference_next(latents - base, () if chunk.start else None)
        return decoded[0].transpose(0, 1)

    def residual(self, difference: Tensor, closer: RasterClip) -> Tensor:
        """(N, 3, H, W), what to add to the base in its holes: the difference carried to the size of `closer` and
        filtered there, nothing at the sky line.

        Args:
            difference: (N, 3, h, w), of single frames.
            closer: these frames at `projection_size`.
        """
        size = closer.base.shape[-2:]
        enlarged = functional.interpolate(difference, size=size, mode="bilinear", align_corners=False)
        filtered = self.filter(enlarged, closer.base, closer.guide, closer.visible, closer.nearness)
        return filtered * away_from_sky_line(closer.sky)


def projection_size(raster: tuple[int, int]) -> tuple[int, int]:
    """(width, height) at which clips are projected for the network, then averaged to the raster, so that edges
    come out smooth; and at which the pixel filter works."""
    return (PROJECTION_SCALE * raster[0], PROJECTION_SCALE * raster[1])


def path_in_units(path: CameraPath, clip: RasterClip) -> CameraPath:
    """The path for images of the raster's size, with offsets in the clip's unit."""
    height, width = clip.base.shape[-2:]
    c2w = path.c2w.copy()
    c2w[:, :3, 3] /= clip.unit_m
    return CameraPath(c2w, path.intrinsics, path.image_size).fitted_to((width, height))


def camera_inputs(path: CameraPath, latents: slice | None = None) -> tuple[Tensor, Tensor]:
    """Camera tokens (T, 20) and Plücker chunks (48, T, h/8, w/8) from `path_in_units`, for all or some latents."""
    width, height = path.image_size
    grid = ((len(path) - 1) // STEP + 1, height // PATCH, width // PATCH)
    return camera_tokens(path, grid, latents), chunk_plucker(path, grid, latents)


def encoded(codec: LinearCodec, frames: Tensor, begins: bool) -> Tensor:
    """Frames (F, 3, h, w), from a clip's first one on or behind it -> (1, 128, T, h/8, w/8)."""
    video = frames.transpose(0, 1)[None]
    return codec.encode(video) if begins else codec.encode_next(video)


def condition_channels(
    codec: LinearCodec, base_latents: Tensor, clip: RasterClip, begins: bool = True
) -> Tensor:
    """(1, 272, T, h/8, w/8): base latents, guide latents, visibility, nearness."""
    guide = encoded(codec, clip.guide, begins)
    visible, nearness = (_per_step(planes, begins) for planes in (clip.visible, clip.nearness))
    return torch.cat([base_latents, guide, visible, nearness], dim=1)


def null_text(batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The one constant token that stands for every prompt, and its mask."""
    return torch.ones(batch, 1, 1, NULL_TEXT_CHANNELS, device=device), torch.ones(batch, 1, device=device)


def _per_step(planes: Tensor, begins: bool) -> Tensor:
    """(F, 1, h, w) -> (1, 8, T, h/8, w/8): token means; the clip's frame 0 stands for all eight of its step."""
    cells = functional.avg_pool2d(planes, PATCH)[:, 0]
    if begins:
        cells = torch.cat([cells[:1].expand(STEP - 1, -1, -1), cells])
    return cells.unflatten(0, (-1, STEP)).transpose(0, 1)[None]
