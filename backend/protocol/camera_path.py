# SPDX-License-Identifier: GPL-3.0-or-later
"""The camera of a shot: one pose and one lens per 1/16 s, in OpenCV axes and metres."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import atomic
from .errors import ProtocolError

FPS = 16


@dataclass(frozen=True)
class CoverCrop:
    """How an image covers a target: scale it to `resized`, then cut `target` out at (`left`, `top`)."""

    resized: tuple[int, int]
    left: int
    top: int


def cover_crop(image_size: tuple[int, int], target_size: tuple[int, int]) -> CoverCrop:
    """Scale to cover and cut the centre, as the released SANA-WM pipeline prepares its first frame.

    Args:
        image_size: (width, height) in pixels.
        target_size: (width, height) in pixels.
    """
    scale = max(target_size[0] / image_size[0], target_size[1] / image_size[1])
    resized = tuple(
        max(target, round(size * scale)) for size, target in zip(image_size, target_size, strict=True)
    )
    return CoverCrop(resized, (resized[0] - target_size[0]) // 2, (resized[1] - target_size[1]) // 2)


@dataclass(frozen=True, eq=False)
class CameraPath:
    """Sample i is the camera at i / 16 s after the start of the shot.

    Attributes:
        c2w: (F, 4, 4) float64, camera to world; camera axes +x right, +y down, +z forward; the world is
            Blender's (z up); lengths in metres; rotations without scale.
        intrinsics: (F, 4) float64, fx, fy, cx, cy in pixels of an image of `image_size`; the image's centre
            is at (width / 2, height / 2).
        image_size: (width, height) of the first frame in pixels.
    """

    c2w: np.ndarray
    intrinsics: np.ndarray
    image_size: tuple[int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "c2w", np.ascontiguousarray(self.c2w, dtype=np.float64))
        object.__setattr__(self, "intrinsics", np.ascontiguousarray(self.intrinsics, dtype=np.float64))
        object.__setattr__(self, "image_size", (int(self.image_size[0]), int(self.image_size[1])))
        samples = len(self.c2w)
        if self.c2w.shape != (samples, 4, 4) or samples == 0:
            raise ProtocolError(f"The camera path needs poses of shape (F, 4, 4), not {self.c2w.shape}.")
        if self.intrinsics.shape != (samples, 4):
            raise ProtocolError(
                f"The camera path has {samples} poses, so its intrinsics must be of shape ({samples}, 4), "
                f"not {self.intrinsics.shape}."
            )
        if not (np.isfinite(self.c2w).all() and np.isfinite(self.intrinsics).all()):
            raise ProtocolError("The camera path contains numbers that are not finite.")
        rotation = self.c2w[:, :3, :3]
        drift = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max()
        if drift > 1e-4 or (np.linalg.det(rotation) < 0).any():
            raise ProtocolError("The camera path contains a pose that is scaled, sheared or mirrored.")
        if np.abs(self.c2w[:, 3] - [0, 0, 0, 1]).max() > 1e-9:
            raise ProtocolError("The last row of every pose must be 0, 0, 0, 1.")
        if (self.intrinsics[:, :2] <= 0).any() or min(self.image_size) <= 0:
            raise ProtocolError("Focal lengths and the image size must be positive.")

    def __len__(self) -> int:
        return len(self.c2w)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, CameraPath)
            and self.image_size == other.image_size
            and np.array_equal(self.c2w, other.c2w)
            and np.array_equal(self.intrinsics, other.intrinsics)
        )

    @property
    def duration_s(self) -> float:
        """Time from the first to the last sample."""
        return (len(self) - 1) / FPS

    def fitted_to(self, target_size: tuple[int, int]) -> CameraPath:
        """The same camera for the image scaled and cut to `target_size` (width, height)."""
        crop = cover_crop(self.image_size, target_size)
        scale_x = crop.resized[0] / self.image_size[0]
        scale_y = crop.resized[1] / self.image_size[1]
        intrinsics = self.intrinsics * [scale_x, scale_y, scale_x, scale_y] - [0, 0, crop.left, crop.top]
        return CameraPath(self.c2w, intrinsics, target_size)

    def save(self, path: Path) -> None:
        """Write `camera.npz` (c2w, intrinsics, image_size), atomically."""
        buffer = io.BytesIO()
        np.savez(buffer, c2w=self.c2w, intrinsics=self.intrinsics, image_size=np.array(self.image_size))
        atomic.write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> CameraPath:
        """Read `camera.npz`.

        Raises:
            ProtocolError: missing, damaged, or not a camera path.
        """
        arrays = load_arrays(path, ("c2w", "intrinsics", "image_size"))
        return cls(arrays["c2w"], arrays["intrinsics"], tuple(arrays["image_size"].tolist()))


def load_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Read the named arrays of an npz file, without pickle.

    Raises:
        ProtocolError: the file is missing, damaged, or lacks one of the arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive.files]
            if not missing:
                return {name: archive[name] for name in names}
    except FileNotFoundError as error:
        raise ProtocolError(f"{path.name} is missing from {path.parent}; export the shot again.") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ProtocolError(
            f"{path.name} in {path.parent} is damaged ({error}); export the shot again."
        ) from error
    raise ProtocolError(f"{path.name} in {path.parent} lacks {', '.join(missing)}; export the shot again.")
