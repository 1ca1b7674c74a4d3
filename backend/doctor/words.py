# SPDX-License-Identifier: GPL-3.0-or-later
"""The report for people: plain text, aligned, no line longer than WIDTH."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ..protocol import limits
from ..protocol.memory_plan import MemoryPlan
from .machine import Ability, Machine
from .parts import Part, Weights
from .report import Fit, PresetReport, Report

WIDTH = 100
_NAMED = 20


def text(report: Report) -> str:
    """The whole report."""
    lines = [*_machine(report.machine), "", *_weights(report.weights), "", *_operators(report)]
    lines += ["", *_presets(report), "", *_sentence(summary(report))]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def summary(report: Report) -> str:
    """The last word, in a sentence or two."""
    can, all_ = len(report.runnable), len(report.presets)
    ready = f"{can} of {all_} presets can run." if can else "No preset can run."
    count = len(report.damages)
    damaged = (
        f"{count} {'thing is' if count == 1 else 'things are'} damaged." if count else "Nothing is damaged."
    )
    return f"{ready} {damaged}"


def _machine(machine: Machine) -> Iterator[str]:
    yield "Machine"
    cores = "core" if machine.cores == 1 else "cores"
    rows = [
        ("system", machine.system),
        ("processor", f"{machine.cpu}, {machine.cores} {cores} usable"),
        ("main memory", f"{machine.memory_gb:.1f} GB, {machine.free_gb:.1f} GB free"),
        ("Python", machine.python),
        ("torch", _torch(machine)),
        ("Triton", machine.triton or "not installed"),
        ("device", _device(machine)),
        *_gpu(machine),
        ("bf16 on the CPU", _yes_or_no(machine.bf16)),
        ("CPU speed", _rates(machine)),
        ("FP8 on the GPU", _yes_or_no(machine.fp8)),
        ("FP4 on the GPU", _yes_or_no(machine.fp4)),
        *(
            []
            if {"fp8", "nvfp4"} & set(limits.RELEASED_PRECISIONS)
            else [("", "No preset uses FP8 or FP4 yet.")]
        ),
        ("ffmpeg", machine.ffmpeg.words),
        ("ray casting", machine.embree.words),
    ]
    if machine.missing:
        rows.append(("missing packages", ", ".join(machine.missing)))
    for name, words in rows:
        yield from _wrapped(f"  {name:{_NAMED}}", words)


def _torch(machine: Machine) -> str:
    if machine.torch is None:
        return machine.obstacle
    return f"{machine.torch}, {machine.threads} {'thread' if machine.threads == 1 else 'threads'}"


def _device(machine: Machine) -> str:
    if machine.device == "cpu":
        return "the CPU" + (f". {machine.why_no_gpu}" if machine.why_no_gpu else ", as it was asked for")
    if machine.gpu is None:
        return f"no CUDA device. {machine.why_no_gpu}"
    if machine.gpu.is_assumed:
        return f"ASSUMED: a card with {machine.gpu.free_gb:g} GB free, in this machine; it is not there"
    return "CUDA"


def _gpu(machine: Machine) -> Iterator[tuple[str, str]]:
    gpu = machine.gpu
    if gpu is None or gpu.is_assumed:
        return
    yield "graphics card", f"{gpu.name}, compute capability {'.'.join(map(str, gpu.capability))}"
    yield "its memory", f"{gpu.total_gb:.1f} GB, {gpu.free_gb:.1f} GB free"
    yield "its driver", f"{gpu.driver or 'version not known'}, CUDA {gpu.cuda} of torch"


def _rates(machine: Machine) -> str:
    rates = [f"{rate:.2g} TFLOP/s in {name}" for name, rate in machine.cpu_tflop_s.items()]
    return f"{', '.join(rates)}, measured on matrices" if rates else "not measured"


def _yes_or_no(ability: Ability) -> str:
    answer = {True: "yes", False: "no", None: "not known"}[ability.is_there]
    return f"{answer}: {ability.words}"


def _weights(weights: Weights | None) -> Iterator[str]:
    yield "Weights of SANA-WM"
    if weights is None:
        yield from _sentence(
            "No folder was named, so nothing is said about them; name it with --weights DIR."
        )
        return
    yield from _sentence(f"{weights.root}, {_gb(weights.free_gb)} free on its disk")
    for sentence in filter(None, (weights.problem, *weights.damages)):
        yield from _sentence(sentence)
    held = (
        "every byte was read"
        if weights.is_hashed
        else "names, sizes and headers are right; --hash reads every byte"
    )
    yield from _sentence(f"Whole means: {held}.")
    yield ""
    yield f"  {'part':40}{'state':15}{'size':>9}   licence"
    for part in weights.parts:
        size_gb = part.size_gb if part.place else part.published_gb
        size = "not known" if size_gb is None else f"{size_gb:.2f} GB"
        agreed = {True: "accepted", False: "not accepted", None: "not known"}[part.is_accepted]
        yield f"  {part.title:40}{part.state:15}{size:>9}   {part.licence} {agreed}"
        if part.state != "missing":
            yield from _wrapped(" " * 6, _where(weights, part) + part.words)


def _where(weights: Weights, part: Part) -> str:
    if part.place is None:
        return ""
    place = part.place.relative_to(weights.root).as_posix()
    return f"{'the folder itself' if place == '.' else place}, {part.layout}. "


def _operators(report: Report) -> Iterator[str]:
    yield f"Operators on {'the CPU' if report.machine.device == 'cpu' else 'CUDA'}"
    if not report.operators:
        yield from _sentence("They need torch.")
    for operator in report.operators:
        yield from _wrapped(f"  {operator.name:{_NAMED}}", f"{operator.path}: {operator.reason}")
    yield from _wrapped(f"  {'FP4 self-test':{_NAMED}}", report.fp4_test)


def _presets(report: Report) -> Iterator[str]:
    budget = report.machine.budget
    if budget is None:
        where = "no device"
    elif budget.is_cpu:
        where = f"the CPU with {budget.host_gb:.1f} GB of main memory free"
    else:
        where = (
            f"{budget.device} with {budget.device_gb:.1f} GB free, and {budget.host_gb:.1f} GB of main memory"
        )
    yield from _wrapped("", f"Presets on {where}")
    if report.presets and budget:
        yield from _sentence(_of_times(budget.is_cpu))
    for preset in report.presets:
        yield f"  {preset.name:40}{'ready' if not preset.obstacle else 'not ready'}"
        for sentence in filter(None, (preset.obstacle, preset.note, _to_download(preset, report.weights))):
            yield from _wrapped(" " * 6, sentence)
        for fit in preset.fits:
            yield from _fit(fit)


def _to_download(preset: PresetReport, weights: Weights | None) -> str:
    if weights is None or not (preset.missing_gb or preset.has_unknown_sizes):
        return ""
    over = "over " if preset.has_unknown_sizes else ""
    return f"The missing parts take {over}{preset.missing_gb:.1f} GB; {_gb(weights.free_gb)} are free."


def _of_times(is_cpu: bool) -> str:
    rate = (
        "the measured rate, so it takes at least that long" if is_cpu else "what such cards reach elsewhere"
    )
    return f"Planned and not tried: memory as the plan counts it, time as the work divided by {rate}."


def _fit(fit: Fit) -> Iterator[str]:
    layout = fit.plan
    if layout is None:
        words = f"does not fit: {fit.words}"
    else:
        time = "" if fit.work_s is None else f"; {_duration(fit.work_s)}"
        words = f"fits in {layout.peak_gb:4.1f} GB: {_laid_out(layout)}{time}"
    yield from _wrapped(f"      {fit.duration_s:2d} s, {fit.frames:3d} frames  ", words)


def _laid_out(layout: MemoryPlan) -> str:
    """In few words; `MemoryPlan.in_words` has more."""
    words = ["all resident" if layout.together else "one stage after another"]
    streamed = [
        name
        for name, is_streamed in (("stage 1", layout.stage1_streamed), ("refiner", layout.refiner_streamed))
        if is_streamed
    ]
    if streamed:
        words.append(f"{' and '.join(streamed)} streamed")
    if layout.spatial_tiles:
        words.append("frames in tiles")
    return ", ".join(words)


def _duration(seconds: float) -> str:
    for size, name in ((86400 * 365, "years"), (86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def _gb(gb: float | None) -> str:
    return "an unknown number of GB" if gb is None else f"{gb:.1f} GB"


def _sentence(words: str) -> Iterator[str]:
    yield from _wrapped("  ", words)


def _wrapped(start: str, words: str) -> Iterator[str]:
    """`words` behind `start`, over as many lines as they need; paths are never cut."""
    yield from textwrap.wrap(
        words,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
