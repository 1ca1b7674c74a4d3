# SPDX-License-Identifier: GPL-3.0-or-later
"""The codecs that latents may be of: the embedded linear one, and the LTX-2 video autoencoder where it is installed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..models.vae import LinearCodec
from ..models.vae.linear_codec import PATCH
from ..protocol import ProtocolError
from ..protocol.limits import TEMPORAL_STRIDE
from ..protocol.weights_folder import find
from ..protocol.weights_licences import unaccepted
from ..weights.embedded import FOLDER as EMBEDDED

NO_CODEC = "none"
LEAST_SIDE_PX = 32
CODECS = (NO_CODEC, "linear", "ltx2")


class Codec(Protocol):
    """Between frames (F, H, W, 3) uint8 sRGB and latents (C, T, h, w) float16, F = 8 (T - 1) + 1."""

    stride: int  # frame sides are multiples of it
    sha256: str  # of the statistics that give the latents their meaning

    def encode(self, frames: np.ndarray) -> Tensor: ...

    def decode(self, latents: Tensor) -> np.ndarray: ...


class LinearClips:
    """The codec that ships with the project; see LinearCodec. Frames go through it eight at a time."""

    stride = PATCH

    def __init__(self) -> None:
        self._codec = LinearCodec.load(EMBEDDED / "codec.safetensors")
        self.sha256 = _statistics_hash(self._codec)

    def encode(self, frames: np.ndarray) -> Tensor:
        pieces = [self._codec.encode(_video(frames[:1]))]
        pieces += [
            self._codec.encode_next(_video(frames[start : start + TEMPORAL_STRIDE]))
            for start in range(1, len(frames), TEMPORAL_STRIDE)
        ]
        return torch.cat(pieces, dim=2)[0].half()

    def decode(self, latents: Tensor) -> np.ndarray:
        carry, pieces = None, []
        for latent in latents.float().split(1, dim=1):
            decoded, carry = self._codec.decode_next(latent[None], carry)
            pieces.append(_pictures(decoded))
        return np.concatenate(pieces)


class Ltx2Clips:
    """The autoencoder that the released SANA-WM's stage 1 was trained on, in bf16 on a GPU and fp32 on a CPU.

    Each half is loaded when it is first needed.
    """

    def __init__(self, weights: Path, device: str) -> None:
        from ..models.vae.ltx2 import SPATIAL_STRIDE

        place = find(weights, "vae")
        if place is None:
            raise ProtocolError(
                f"The LTX-2 video autoencoder is not in {weights}; download it (weights download vae), or use "
                "--codec linear."
            )
        if unaccepted(weights, ["vae"]):
            raise ProtocolError(
                f"The licence of LTX-2 was not accepted for {weights}; read and accept it with weights accept ltx2."
            )
        self.stride = SPATIAL_STRIDE
        self._place, self._device = place, device
        self._halves: dict[str, nn.Module] = {}
        self.sha256 = _statistics_hash(self._half("encoder"))

    def _half(self, name: str) -> nn.Module:
        from ..models.vae.ltx2 import load_vae

        if name not in self._halves:
            dtype = torch.bfloat16 if torch.device(self._device).type == "cuda" else torch.float32
            try:
                self._halves[name] = load_vae(self._place, name, False, dtype, self._device)
            except (OSError, ValueError) as error:
                raise ProtocolError(str(error)) from error
        return self._halves[name]

    @torch.no_grad()
    def encode(self, frames: np.ndarray) -> Tensor:
        from ..models.vae.ltx2 import encode_frames

        return encode_frames(self._half("encoder"), _video(frames))[0].half().cpu()

    def decode(self, latents: Tensor) -> np.ndarray:
        from ..models.vae.tiled_decoder import TiledDecoder

        decoder = TiledDecoder(self._half("decoder"))
        pieces = decoder.decode(latents[None].to(self._device))
        return np.concatenate([_pictures(piece) for piece in pieces])


def load_codec(name: str, weights: Path | None = None, device: str = "cpu") -> Codec | None:
    """A codec by name; None for "none", which keeps frames.

    Args:
        weights: the folder with SANA-WM's weights, for "ltx2".

    Raises:
        ProtocolError: its weights are not there or are something else.
    """
    if name == NO_CODEC:
        return None
    if name == "linear":
        return LinearClips()
    if weights is None:
        raise ProtocolError("The LTX-2 video autoencoder needs the folder with the weights: --weights DIR.")
    return Ltx2Clips(weights, device)


def check_size(size: tuple[int, int], codec: Codec | None) -> None:
    """Refuse (width, height) that the codec cannot take; without one any even sides will do.

    Raises:
        ProtocolError: a side is not a multiple of what the codec needs.
    """
    stride = codec.stride if codec else 2
    least = max(LEAST_SIDE_PX, 2 * stride)  # an autoencoder reflects its latents at their borders
    if any(side < least or side % stride for side in size):
        near = " x ".join(str(max(round(side / stride) * stride, least)) for side in size)
        raise ProtocolError(
            f"Clips of {size[0]} x {size[1]} pixels do not fit: both sides must be multiples of {stride} and at least "
            f"{least}; {near} would do."
        )


def _statistics_hash(module: nn.Module) -> str:
    """Of the buffers, which are a linear codec's everything and an autoencoder's units of latents."""
    digest = hashlib.sha256()
    for name, buffer in sorted(module.named_buffers()):
        digest.update(name.encode())
        digest.update(buffer.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _video(frames: np.ndarray) -> Tensor:
    """(F, H, W, 3) uint8 -> (1, 3, F, H, W) float32, 0..1."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 255


def _pictures(video: Tensor) -> np.ndarray:
    """(1, 3, F, H, W), 0..1 or beyond -> (F, H, W, 3) uint8."""
    return (video[0].float().clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).cpu().numpy()
