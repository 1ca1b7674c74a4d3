# SPDX-License-Identifier: GPL-3.0-or-later
"""What a preset says about noise levels and chunks."""

from __future__ import annotations

from dataclasses import replace

from ..protocol import Preset, limits
from ..sampling.chunk_grid import chunk_grid
from ..sampling.flow_euler import sigma_schedule
from ..weights.streaming_release import steps_to_take


def noise_levels(preset: Preset) -> list[float]:
    """Falling from at most 1 to 0."""
    if preset.variant == "streaming":
        return [step / 1000 for step in preset.step_list]
    return sigma_schedule(preset.steps, preset.shift)


def chunks_of(preset: Preset, frames: int) -> list[slice]:
    """Of the latent frames of a clip of so many pixel frames."""
    latents = (frames - 1) // limits.TEMPORAL_STRIDE + 1
    return [slice(0, latents)] if preset.variant == "bidirectional" else chunk_grid(latents)


def with_trained_steps(preset: Preset, recorded: tuple[float, ...] | None) -> tuple[Preset, list[str]]:
    """The preset with the steps that its weights were trained with, and a warning if these differ.

    Args:
        recorded: the step list in the weights; None if they do not say.
    """
    if preset.variant != "streaming":
        return preset, []
    steps, warning = steps_to_take(recorded, preset.step_list)
    return replace(preset, step_list=steps), [warning] if warning else []
