# SPDX-License-Identifier: GPL-3.0-or-later
"""What SANA-WM can film, checked before any work starts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .camera_path import FPS, CameraPath, cover_crop
from .errors import ProtocolError
from .preset import PRECISIONS, Preset

TEMPORAL_STRIDE = 8
STREAMING_CHUNK = 24
MAX_FRAMES = 961
MODELS = ("embedded", "sana_wm")
# The number formats that the released model runs in; the embedded one knows fp32 alone.
RELEASED_PRECISIONS = PRECISIONS
FOV_RANGE_DEG = (25.0, 120.0)
# The released model's own key controls move 0.025 m and turn 0.6 degrees a frame; they are its gentle range.
GENTLE_SPEED_M_S = 0.025 * FPS
GENTLE_TURN_DEG_S = 0.6 * FPS
# The keys of its first release moved twice as fast; beyond that it was never shown to follow.
FAST_FACTOR = 2.0
# Sampling and single precision may lift an even move's rate by so much.
RATE_TOLERANCE = 1.01
# A step this large within 1/16 s, and far beyond its neighbours, is an edit and no camera move.
CUT_TURN_DEG = 15.0
CUT_SHIFT_M = 1.0
CUT_RATIO = 5.0


@dataclass(frozen=True)
class Finding:
    """One sentence about a shot; an error stops it, a warning does not."""

    is_error: bool
    message: str


def frame_stride(variant: str) -> int:
    """A clip has one frame and then a whole number of these: latent frames, or chunks where time is causal."""
    return TEMPORAL_STRIDE if variant == "bidirectional" else STREAMING_CHUNK


def frame_count_for(duration_s: float, variant: str = "bidirectional") -> int:
    """Frames of the longest clip that ends within `duration_s`: 8k + 1 if bidirectional, else 24k + 1."""
    stride = frame_stride(variant)
    return stride * math.floor(duration_s * FPS / stride + 1e-6) + 1


def check(camera: CameraPath, preset: Preset) -> list[Finding]:
    """Everything about the preset and the camera that stops a shot, or that the model does not like; errors first."""
    found = check_model(preset), check_length(len(camera), preset)
    findings = [*filter(None, found), *_field_of_view(camera, preset)]
    cut = _cut(camera)
    findings += [cut] if cut else _pace(camera)
    findings += _first_frame_size(camera, preset)
    return sorted(findings, key=lambda finding: not finding.is_error)


def check_model(preset: Preset) -> Finding | None:
    """Whether this version can run the preset's model in its number format at all."""
    if preset.model not in MODELS:
        return Finding(
            True,
            f"The preset {preset.name} wants the model {preset.model}, which this version does not know; choose a "
            f"preset of {' or '.join(MODELS)}.",
        )
    formats = ("fp32",) if preset.model == "embedded" else RELEASED_PRECISIONS
    if preset.precision in formats:
        return None
    return Finding(
        True,
        f"The preset {preset.name} cannot run yet in {preset.precision}; choose one in {' or '.join(formats)}.",
    )


def check_length(frames: int, preset: Preset) -> Finding | None:
    """What is wrong with a clip of so many frames, if anything."""
    stride = frame_stride(preset.variant)
    fewest = stride + 1
    if frames < fewest:
        return Finding(
            True,
            f"The range gives {frames} {'frame' if frames == 1 else 'frames'} at {FPS} fps, but the preset "
            f"{preset.name} needs at least {fewest} ({(fewest - 1) / FPS:g} s); make the range longer.",
        )
    if frames > MAX_FRAMES:
        return Finding(
            True,
            f"The range gives {frames} frames, but a clip has at most {MAX_FRAMES} "
            f"({(MAX_FRAMES - 1) // FPS} s); shorten or split the range.",
        )
    if (frames - 1) % stride:
        return Finding(
            True,
            f"The camera path has {frames} samples, but the preset {preset.name} needs {stride}k + 1; "
            "export the shot again with this preset.",
        )
    return None


def require(camera: CameraPath, preset: Preset) -> list[str]:
    """The warnings.

    Raises:
        ProtocolError: there is an error; its message names every one.
    """
    findings = check(camera, preset)
    refuse_errors(findings)
    return [finding.message for finding in findings]


def refuse_errors(findings: list[Finding]) -> None:
    """Let warnings pass.

    Raises:
        ProtocolError: there is an error; its message names every one.
    """
    errors = [finding.message for finding in findings if finding.is_error]
    if errors:
        raise ProtocolError(" ".join(errors))


def field_of_view_deg(camera: CameraPath) -> np.ndarray:
    """(F, 2) horizontal and vertical field of view in degrees, of the whole image."""
    return np.degrees(2 * np.arctan(np.array(camera.image_size) / (2 * camera.intrinsics[:, :2])))


def is_filmable_fov(horizontal_deg: np.ndarray) -> np.ndarray:
    """Whether the model films with this horizontal field of view."""
    low, high = FOV_RANGE_DEG
    return (horizontal_deg > low - 0.01) & (horizontal_deg < high + 0.01)


def speed_m_s(camera: CameraPath) -> np.ndarray:
    """(F - 1,) speed between samples in metres per second."""
    return np.linalg.norm(np.diff(camera.c2w[:, :3, 3], axis=0), axis=1) * FPS


def turn_rate_deg_s(camera: CameraPath) -> np.ndarray:
    """(F - 1,) turn rate between samples in degrees per second."""
    rotation = camera.c2w[:, :3, :3]
    chord = np.linalg.norm(rotation[1:] - rotation[:-1], axis=(1, 2)) / math.sqrt(8)
    return np.degrees(2 * np.arcsin(np.clip(chord, 0, 1))) * FPS


def _field_of_view(camera: CameraPath, preset: Preset) -> Iterator[Finding]:
    low, high = FOV_RANGE_DEG
    # The model sees the cropped image, so its own field of view counts.
    horizontal = field_of_view_deg(camera.fitted_to(preset.image_size))[:, 0]
    unfilmable = horizontal[~is_filmable_fov(horizontal)]
    if len(unfilmable):
        worst = unfilmable.min() if unfilmable.min() < low else unfilmable.max()
        yield Finding(
            True,
            f"The horizontal field of view reaches {worst:.1f} degrees, and the model films "
            f"{low:.0f} to {high:.0f}; change the focal length.",
        )


def cut_samples(camera: CameraPath) -> list[int]:
    """The samples, in order, that a jump leads to."""
    jumps = set()
    for steps, floor in (
        (turn_rate_deg_s(camera) / FPS, CUT_TURN_DEG),
        (speed_m_s(camera) / FPS, CUT_SHIFT_M),
    ):
        for step in np.flatnonzero(steps > floor):
            # Two neighbours on each side tell a jump from a fast move.
            nearby = np.concatenate([steps[max(0, step - 2) : step], steps[step + 1 : step + 3]])
            if steps[step] > CUT_RATIO * (np.median(nearby) if len(nearby) else 0):
                jumps.add(int(step) + 1)
    return sorted(jumps)


def _cut(camera: CameraPath) -> Finding | None:
    jumps = cut_samples(camera)
    if not jumps:
        return None
    return Finding(
        True,
        f"The camera jumps {jumps[0] / FPS:.2f} s into the range, which looks like a cut; split the range there.",
    )


def _pace(camera: CameraPath) -> Iterator[Finding]:
    if len(camera) < 2:
        return
    speed, turn = speed_m_s(camera).max(), turn_rate_deg_s(camera).max()
    if speed > GENTLE_SPEED_M_S * RATE_TOLERANCE:
        yield Finding(
            False,
            f"The camera moves up to {speed:.2f} m/s; the model follows best below "
            f"{GENTLE_SPEED_M_S:.2f} m/s.",
        )
    if turn > GENTLE_TURN_DEG_S * RATE_TOLERANCE:
        yield Finding(
            False,
            f"The camera turns up to {turn:.1f} degrees/s; the model follows best below "
            f"{GENTLE_TURN_DEG_S:.1f} degrees/s.",
        )


def _first_frame_size(camera: CameraPath, preset: Preset) -> Iterator[Finding]:
    width, height = camera.image_size
    if width < 64 or height < 64:
        yield Finding(True, f"The first frame is {width}x{height} pixels; it must be at least 64x64.")
        return
    crop = cover_crop(camera.image_size, preset.image_size)
    kept = preset.image_size[0] * preset.image_size[1] / (crop.resized[0] * crop.resized[1])
    if kept < 0.9:
        yield Finding(
            False,
            f"The clip shows {kept:.0%} of the camera's picture: {width}x{height} is cut to the shape of "
            f"{preset.image_size[0]}x{preset.image_size[1]}.",
        )
    if crop.resized[0] > width * 1.05:
        yield Finding(
            False,
            f"The first frame is enlarged from {width}x{height} to cover "
            f"{preset.image_size[0]}x{preset.image_size[1]}; a larger render size gives a sharper clip.",
        )
