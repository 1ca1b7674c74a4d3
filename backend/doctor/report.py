# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is told, as a record: the machine, the weights, the operators' paths, and what each preset can do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..protocol import Preset, ProtocolError, limits
from ..protocol.memory_plan import MemoryPlan, plan
from ..protocol.weights_ready import TEXT_ENCODERS, why_not_ready
from ..protocol.weights_registry import COMPONENTS, Component, needed_for
from . import machine as machines
from . import parts
from .machine import Machine
from .parts import OnRead, Weights

PRESETS = Path(__file__).parents[2] / "presets" / "quality"
DURATIONS_S = (5, 20, 60)
# What computes NVFP4, by the path that `kernels.nvfp4.self_test` names.
_FP4_WAYS = {
    "native": "the card's FP4 tensor cores",
    "emulated": "the emulation in bf16, because the card's FP4 tensor cores failed it",
    "weight only": "weights in 4 bits that are unpacked to bf16",
    "vectorized": "torch on the CPU",
}


@dataclass(frozen=True)
class Operator:
    """Which of its implementations an operator takes, and why."""

    name: str
    path: str
    reason: str


@dataclass(frozen=True)
class Fit:
    """The memory plan of one length.

    Attributes:
        words: how it fits, or why it does not and the nearest setting that does; a sentence.
        plan: None if it does not fit.
        petaflop: floating-point work, 1 multiply-add counted as 2; None if it does not fit.
        work_s: about how long that takes, by a card's data sheet or by the CPU's measured rate; None where neither is
            known.
    """

    duration_s: int
    frames: int
    words: str
    plan: MemoryPlan | None
    petaflop: float | None
    work_s: float | None


@dataclass(frozen=True)
class PresetReport:
    """
    Attributes:
        id: file name without ending.
        obstacle: one sentence on why it cannot run; empty if it is ready.
        note: what to know although it is ready; empty if there is nothing to say.
        missing_gb: what would have to be downloaded, in 1e9 bytes, as far as it is known before.
        has_unknown_sizes: and something whose size is not known.
        fits: of the released model; empty where there is no device to plan for.
        is_damaged: the obstacle is that files that ship with the extension are damaged.
    """

    id: str
    name: str
    obstacle: str
    note: str
    missing_gb: float
    has_unknown_sizes: bool
    fits: tuple[Fit, ...]
    is_damaged: bool = False

    @property
    def can_run(self) -> bool:
        return not self.obstacle and (not self.fits or any(fit.plan for fit in self.fits))


@dataclass(frozen=True)
class Report:
    """
    Attributes:
        weights: None if no folder was named.
        operators: empty without torch.
        fp4_test: what computes NVFP4 on the device, and whether it gave a known result, as a sentence.
    """

    machine: Machine
    weights: Weights | None
    operators: tuple[Operator, ...]
    fp4_test: str
    presets: tuple[PresetReport, ...]

    @property
    def damages(self) -> list[str]:
        """A sentence for each thing that is there and damaged."""
        weights = self.weights
        of_parts = [f"{p.title}: {p.words}" for p in weights.parts if p.state == "damaged"] if weights else []
        of_presets = dict.fromkeys(preset.obstacle for preset in self.presets if preset.is_damaged)
        return [*(weights.damages if weights else ()), *of_parts, *of_presets]

    @property
    def runnable(self) -> list[str]:
        """The names of the presets that can run."""
        return [preset.name for preset in self.presets if preset.can_run]

    def to_record(self) -> dict[str, Any]:
        """A JSON object."""
        record = json.loads(json.dumps(asdict(self), default=str))
        return {**record, "damages": self.damages, "runnable": self.runnable}


def look(
    device: str | None, assumed_gb: float | None, root: Path | None, on_read: OnRead | None = None
) -> Report:
    """Look at all of it.

    Args:
        device, assumed_gb: see `machine.examine`.
        root: the weights folder; None leaves weights out.
        on_read: see `parts.examine`.
    """
    weights = parts.examine(root, on_read) if root else None
    return of(machines.examine(device, assumed_gb), weights)


def of(machine: Machine, weights: Weights | None) -> Report:
    """What these mean for operators and presets."""
    embedded = "" if machine.obstacle else _embedded_damage()
    presets = tuple(_preset(path, machine, weights, embedded) for path in sorted(PRESETS.glob("*.json")))
    return Report(machine, weights, _operators(machine), _fp4_test(machine), presets)


def _operators(machine: Machine) -> tuple[Operator, ...]:
    if machine.torch is None:
        return ()
    from kernels import paths

    return tuple(Operator(name, *path) for name, path in paths(machine.device).items())


def _fp4_test(machine: Machine) -> str:
    if machine.torch is None:
        return "Not run: it needs torch."
    if machine.device == "cuda" and (machine.gpu is None or machine.gpu.is_assumed):
        return f"Not run: {'the card is assumed' if machine.gpu else 'there is no graphics card'}."
    from kernels.nvfp4 import self_test

    try:
        way, wrong = self_test(machine.device)
    except RuntimeError as error:  # the card is too old, or Triton is missing
        return f"Not run: {error}"
    by = _FP4_WAYS[way]
    if wrong:
        return f"FAILED by {by}: {wrong}. Choose a preset in bf16 or fp32."
    return f"Passed by {by}: a vector with known bytes and a product with a known result came out right."


def _preset(file: Path, machine: Machine, weights: Weights | None, embedded_damage: str) -> PresetReport:
    try:
        preset = Preset.load(file)
    except ProtocolError as error:
        return PresetReport(file.stem, file.stem, str(error), "", 0.0, False, (), is_damaged=True)
    refused = limits.check_model(preset)
    obstacle = refused.message if refused else machine.obstacle
    if machine.budget is None and not obstacle:
        obstacle = f"There is no CUDA device. {machine.why_no_gpu}"
    if preset.model == "embedded":
        damage = embedded_damage if preset.network_blend > 0 and not obstacle else ""
        return PresetReport(file.stem, preset.name, obstacle or damage, "", 0.0, False, (), bool(damage))
    obstacle = obstacle or machine.obstacle_of_released or _weights_obstacle(preset, weights)
    needed = needed_for(preset)
    states = {part.id: part.state for part in weights.parts} if weights else {}
    absent = [COMPONENTS[id] for id in needed if states.get(id, "missing") in ("missing", "incomplete")]
    fits = tuple(_fit(preset, seconds, machine) for seconds in DURATIONS_S) if machine.budget else ()
    return PresetReport(
        file.stem,
        preset.name,
        obstacle,
        "" if obstacle else _note(absent, fits, machine),
        sum(component.size_gb or 0.0 for component in absent),
        any(component.size_gb is None for component in absent),
        fits,
    )


def _embedded_damage() -> str:
    """What is wrong with the files that ship with the extension: they are so small that loading them tells."""
    from ..films.embedded import EmbeddedModels

    try:
        EmbeddedModels.load(Preset.load(PRESETS / "embedded_draft.json"), "cpu")
    except ProtocolError as error:
        return str(error)
    return ""


def _weights_obstacle(preset: Preset, weights: Weights | None) -> str:
    """Damage first: of a damaged part, `why_not_ready` can only say that it is not there."""
    needed = needed_for(preset)
    broken = (
        [part.title for part in weights.parts if part.id in needed and part.state == "damaged"]
        if weights
        else []
    )
    if broken:
        return f"{preset.name} needs {' and '.join(broken)}, which cannot be used as it is; the weights' list says why."
    try:
        return why_not_ready(weights.root if weights else None, preset)
    except (ProtocolError, OSError) as error:
        return str(error)


def _note(absent: list[Component], fits: tuple[Fit, ...], machine: Machine) -> str:
    sentences = []
    encoders = [component.title for component in absent if component.id in TEXT_ENCODERS]
    if encoders:
        sentences.append(f"Without {' and '.join(encoders)} it takes only prompts that were encoded before.")
    if machine.device == "cpu" and any((fit.work_s or 0) > 86400 for fit in fits[:1]):
        sentences.append(
            "On this CPU even a short clip takes more than a day; it is made for a graphics card."
        )
    return " ".join(sentences)


def _fit(preset: Preset, seconds: int, machine: Machine) -> Fit:
    frames = limits.frame_count_for(seconds, preset.variant)
    try:
        layout = plan(preset, frames, machine.budget)
    except ProtocolError as error:
        return Fit(seconds, frames, str(error), None, None, None)
    tflop = sum(stage.tflop for stage in layout.stages)
    return Fit(
        seconds,
        frames,
        layout.in_words(),
        layout,
        tflop / 1e3,
        _work_s(layout, tflop, preset.precision, machine),
    )


def _work_s(layout: MemoryPlan, tflop: float, precision: str, machine: Machine) -> float | None:
    if machine.device == "cpu":
        rate = machine.cpu_tflop_s.get(precision)
        return tflop / rate if rate else None
    times = [stage.seconds for stage in layout.stages]
    return None if None in times else sum(times)
