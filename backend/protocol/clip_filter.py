# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cameras may enter a training set: SANA-WM's criteria, so far as a camera path alone shows them.

The paper (arXiv 2605.15178) trains on horizontal fields of view from 25 to 120 degrees and drops clips whose focal
length changes or whose translation changes its scale; where it gives no threshold, the ones below are this project's.
"""

from __future__ import annotations

import numpy as np

from .camera_path import FPS, CameraPath
from .limits import FOV_RANGE_DEG, cut_samples, field_of_view_deg, is_filmable_fov, speed_m_s

# A solver that is unsure about the lens lets it breathe.
MOST_FOCAL_CHANGE = 0.10
# A step so far beyond those of the second around it, and as long as this, is a jump of the solver.
JUMP_RATIO, JUMP_M = 6.0, 0.05
# Typical speeds of one second and the next differ by so much only where a solver lost its scale.
SPEED_RATIO, SLOW_M_S = 5.0, 0.05


def why_unfit(camera: CameraPath) -> str:
    """What is wrong with an exact camera, in a sentence; "" if nothing is."""
    fov = field_of_view_deg(camera)[:, 0]
    outside = fov[~is_filmable_fov(fov)]
    if len(outside):
        low, high = FOV_RANGE_DEG
        worst = outside.min() if outside.min() < low else outside.max()
        return f"The horizontal field of view is {worst:.1f} degrees; the model learns from {low:.0f} to {high:.0f}."
    jumps = cut_samples(camera)
    if jumps:
        return f"The camera jumps {jumps[0] / FPS:.2f} s into the clip, as at a cut."
    return ""


def why_unreliable(camera: CameraPath) -> str:
    """What is wrong with a camera that a solver estimated from footage; "" if nothing is."""
    return why_unfit(camera) or _focal_change(camera) or _jump(camera) or _scale_change(camera)


def _focal_change(camera: CameraPath) -> str:
    focal_px = camera.intrinsics[:, 0]
    change = focal_px.max() / focal_px.min() - 1
    if change <= MOST_FOCAL_CHANGE:
        return ""
    return f"The focal length changes by {change:.0%} in the clip, more than {MOST_FOCAL_CHANGE:.0%} for one lens."


def _jump(camera: CameraPath) -> str:
    steps_m = speed_m_s(camera) / FPS
    for step in np.flatnonzero(steps_m > JUMP_M):
        nearby = np.concatenate(
            [steps_m[max(0, step - FPS // 2) : step], steps_m[step + 1 : step + 1 + FPS // 2]]
        )
        if len(nearby) and steps_m[step] > JUMP_RATIO * np.median(nearby):
            return f"The camera jumps {steps_m[step]:.2f} m in one frame, {(step + 1) / FPS:.2f} s into the clip."
    return ""


def _scale_change(camera: CameraPath) -> str:
    speed = speed_m_s(camera)
    typical = [np.median(speed[start : start + FPS]) for start in range(0, len(speed) - FPS // 2, FPS)]
    for second, (before, after) in enumerate(zip(typical, typical[1:], strict=False), start=1):
        slow, fast = sorted((before, after))
        if slow > SLOW_M_S and fast > SPEED_RATIO * slow:
            return (
                f"The scale of the translation changes: the camera goes {before:.2f} m/s and then {after:.2f} m/s, "
                f"{second} s into the clip."
            )
    return ""
