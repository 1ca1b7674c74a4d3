# SPDX-License-Identifier: GPL-3.0-or-later
"""The blockout's geometry: triangles with object ids, viewport colours and rigid motion."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from . import atomic
from .camera_path import load_arrays
from .errors import ProtocolError


@dataclass(frozen=True, eq=False)
class Blockout:
    """Everything the camera may see, as it stands at the first camera sample.

    Attributes:
        vertices: (V, 3) float32, world, metres.
        faces: (T, 3) int32, indices into `vertices`.
        face_object: (T,) int32, indices into the objects.
        object_names: (K,) str.
        object_colors: (K, 3) float32, viewport display colour, sRGB 0..1.
        moving: (M,) int32, objects that move rigidly; none twice.
        motion: (M, F, 4, 4) float64, x at sample i = motion[m, i] @ x at sample 0; metres.
        background: (3,) float32, colour of the world where no geometry is, sRGB 0..1.
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_object: np.ndarray
    object_names: np.ndarray
    object_colors: np.ndarray
    moving: np.ndarray
    motion: np.ndarray
    background: np.ndarray

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=dtype))
        objects, triangles, moving = len(self.object_names), len(self.faces), len(self.moving)
        samples = self.motion.shape[1] if self.motion.ndim == 4 else 0
        expected = {
            "vertices": (len(self.vertices), 3),
            "faces": (triangles, 3),
            "face_object": (triangles,),
            "object_names": (objects,),
            "object_colors": (objects, 3),
            "moving": (moving,),
            "motion": (moving, samples, 4, 4),
            "background": (3,),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ProtocolError(
                    f"The blockout's {name} must be of shape {shape}, not {getattr(self, name).shape}."
                )
        for name, values, limit in (
            ("faces", self.faces, len(self.vertices)),
            ("face_object", self.face_object, objects),
            ("moving", self.moving, objects),
        ):
            if values.size and (values.min() < 0 or values.max() >= limit):
                raise ProtocolError(f"The blockout's {name} point outside of their table of {limit} entries.")
        if not (np.isfinite(self.vertices).all() and np.isfinite(self.motion).all()):
            raise ProtocolError("The blockout contains coordinates that are not finite.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blockout) and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)
        )

    @classmethod
    def empty(cls) -> Blockout:
        """No geometry: the camera sees only the background."""
        return cls(
            vertices=np.zeros((0, 3)),
            faces=np.zeros((0, 3)),
            face_object=np.zeros(0),
            object_names=np.zeros(0),
            object_colors=np.zeros((0, 3)),
            moving=np.zeros(0),
            motion=np.zeros((0, 1, 4, 4)),
            background=np.full(3, 0.25),
        )

    def save(self, path: Path) -> None:
        """Write `blockout.npz`, atomically."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        atomic.write_bytes(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Blockout:
        """Read `blockout.npz`.

        Raises:
            ProtocolError: missing, damaged, or inconsistent.
        """
        return cls(**load_arrays(path, tuple(field.name for field in fields(cls))))


_DTYPES = {
    "vertices": np.float32,
    "faces": np.int32,
    "face_object": np.int32,
    "object_names": np.str_,
    "object_colors": np.float32,
    "moving": np.int32,
    "motion": np.float64,
    "background": np.float32,
}
