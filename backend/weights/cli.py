# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m backend weights: list | accept | download | verify | convert | merge | quantize | remove."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..protocol import Preset, ProtocolError
from ..protocol.preset import QUANTIZED
from ..protocol.weights_folder import (
    PARTIAL_ENDING,
    find,
    installed,
    quantized_name,
    record_installed,
    state,
    unconverted,
)
from ..protocol.weights_licences import LICENCES, accept, is_accepted
from ..protocol.weights_registry import COMPONENTS, Component, needed_for
from . import quantized
from .notices import write_modified
from .quantized import QuantizedPart
from .verify import sha256_of, verify

_PRESETS = Path(__file__).parents[2] / "presets" / "quality"
_STUDENT = COMPONENTS["stage1_streaming"]


def main(argv: list[str]) -> int:
    """Returns the exit code: 0 done, 1 it could not be done, 2 wrong arguments, 130 stopped."""
    arguments = _parser().parse_args(argv)
    _stop_on_signals()
    reporter = _Reporter(getattr(arguments, "json", False))
    try:
        sentence = arguments.act(arguments, reporter)
    except KeyboardInterrupt:
        reporter.end("cancelled", "Stopped; the next download goes on from here.")
        return 130
    except (OSError, ValueError) as error:
        reporter.end("failed", str(error))
        return 1
    reporter.end("done", sentence)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m backend weights")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, act, help: str, components=None) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help)
        added.set_defaults(act=act)
        if name != "convert":
            added.add_argument(
                "--weights", type=Path, required=True, metavar="DIR", help="the weights folder"
            )
        if components:
            added.add_argument("components", nargs="*", type=components, metavar="COMPONENT")
            added.add_argument("--preset", type=_preset, metavar="NAME", help="all that this preset needs")
            added.add_argument("--json", action="store_true", help="report as JSON lines")
        return added

    command("list", _list, "what there is, what is here, and under which terms")
    agree = command("accept", _accept, "agree to licenses")
    agree.add_argument("licences", type=_licences, metavar="LICENSE,...")
    fetch = command("download", _download, "fetch components, or go on fetching them", _component)
    fetch.add_argument("--accept-license", type=_licences, default=[], metavar="LICENSE,...")
    command("verify", _verify, "read every file and hold it against its hash", _component_or_quantized)
    command("remove", _remove, "delete downloaded or quantised components", _component_or_quantized)
    join = command("merge", _merge, "a LoRA into stage 1 or a refiner, as a folder of its own")
    join.add_argument("component", choices=[id for id in COMPONENTS if id.startswith(("stage1", "refiner"))])
    join.add_argument("--lora", type=Path, required=True, metavar="FILE", help="the adapter, .safetensors")
    join.add_argument("--strength", type=_finite, default=1.0, help="of the adapter (default 1)")
    join.add_argument("--target", type=Path, required=True, metavar="FOLDER", help="a new folder")
    convert = command("convert", _convert, "model.pt of the streaming release to safetensors, once")
    convert.add_argument("source", type=Path, nargs="?", metavar="MODEL_PT")
    convert.add_argument("target", type=Path, nargs="?", metavar="SAFETENSORS")
    convert.add_argument(
        "--weights", type=Path, metavar="DIR", help="instead: the weights folder it was downloaded to"
    )
    convert.add_argument("--json", action="store_true", help="report as JSON lines")
    smaller = command("quantize", _quantize, "the linears of stage 1 or a refiner in 4 or 8 bits, once")
    smaller.add_argument("component", type=_quantizable, metavar="COMPONENT")
    smaller.add_argument("--format", choices=QUANTIZED, required=True)
    smaller.add_argument(
        "--target", type=Path, metavar="FOLDER", help="instead of the folder that presets look in"
    )
    smaller.add_argument("--json", action="store_true", help="report as JSON lines")
    return parser


def _list(arguments: argparse.Namespace, _reporter: _Reporter) -> str:
    root = arguments.weights
    for component in COMPONENTS.values():
        place = find(root, component.id)
        where = f"  {place}" if place else ""
        print(
            f"{component.id:22} {_size(component):>9}  {component.licence:8} {state(root, component.id)}{where}"
        )
        for part in quantized.there(root):
            if part.component is component:
                size = f"{part.size_gb(root):.2f} GB"
                print(
                    f"{part.name:22} {size:>9}  {component.licence:8} {part.state(root)}  {root / part.name}"
                )
    for licence in LICENCES.values():
        print(
            f"\n{licence.id} ({'accepted' if is_accepted(root, licence.id) else 'not accepted'}): {licence.terms}"
        )
    return ""


def _accept(arguments: argparse.Namespace, _reporter: _Reporter) -> str:
    for id in arguments.licences:
        print(LICENCES[id].terms, end="\n\n")
    accept(arguments.weights, arguments.licences)
    return f"Accepted: {', '.join(arguments.licences)}."


def _download(arguments: argparse.Namespace, reporter: _Reporter) -> str:
    ids = _chosen(arguments)
    if not arguments.json:
        _show_terms(ids)
    if arguments.accept_license:
        accept(arguments.weights, arguments.accept_license)
    try:
        from .download import download
    except ModuleNotFoundError as error:
        raise ProtocolError(f"The backend was set up without {error.name}; set it up again.") from None
    download(arguments.weights, ids, reporter)
    if _STUDENT.id in ids:
        reporter("convert", f"{_STUDENT.title}: converting", 1.0)
        _convert_installed(arguments.weights)
    return f"Downloaded: {', '.join(COMPONENTS[id].title for id in ids)}."


def _verify(arguments: argparse.Namespace, reporter: _Reporter) -> str:
    root, problems = arguments.weights, []
    present = [id for id in COMPONENTS if state(root, id) != "missing"]
    ids = _chosen(arguments, [*present, *(part.name for part in quantized.there(root))])
    if arguments.preset:
        # As when a clip is made, what was quantised for the preset goes before the plain weights.
        for part in _quantized_for(arguments.preset, root):
            ids = [part.name if id == part.component.id else id for id in ids]
    for done, id in enumerate(ids):
        reporter("verify", f"{_title(id)}: reading", done / len(ids))
        try:
            found = quantized.PARTS[id].verify(root) if id in quantized.PARTS else verify(root, id)
            reporter("verify", found, (done + 1) / len(ids))
        except ProtocolError as error:
            problems.append(str(error))
    if problems:
        raise ProtocolError(" ".join(problems))
    return f"{len(ids)} {'component is' if len(ids) == 1 else 'components are'} whole."


def _remove(arguments: argparse.Namespace, _reporter: _Reporter) -> str:
    root, ids = arguments.weights, _chosen(arguments)
    if arguments.preset:
        ids += [part.name for part in _quantized_for(arguments.preset, root)]
    for id in ids:
        if id in quantized.PARTS:
            quantized.PARTS[id].remove(root)
            continue
        own = root / id
        names = {file.name for file in COMPONENTS[id].files} | set(installed(root, id).get("files", {}))
        for path in own.glob("*") if own.is_dir() else ():
            if path.name in names or path.name.endswith(PARTIAL_ENDING):
                path.unlink()
        if installed(root, id):
            record_installed(root, id, None)
        if own.is_dir() and not any(own.iterdir()):
            own.rmdir()
    return f"Removed: {', '.join(map(_title, ids))}."


def _quantized_for(preset: Preset, root: Path) -> list[QuantizedPart]:
    """Those of its parts that are there in the preset's precision."""
    needed = needed_for(preset)
    return [
        part
        for part in quantized.there(root)
        if part.format == preset.precision and part.component.id in needed
    ]


def _title(id: str) -> str:
    return (quantized.PARTS[id] if id in quantized.PARTS else COMPONENTS[id]).title


def _merge(arguments: argparse.Namespace, reporter: _Reporter) -> str:
    from ..models.refiner.loading import not_applied
    from .merge import merge

    component, root, target = COMPONENTS[arguments.component], arguments.weights, arguments.target
    place = find(root, component.id)
    if place is None:
        raise ProtocolError(f"{component.title} is not in {root}; download it first.")
    adapter = merge(
        place,
        component,
        arguments.lora,
        arguments.strength,
        target,
        lambda name, done: reporter("merge", f"{component.title}: {name}", done),
    )
    return f"{target} is written; {len(adapter.layers)} linears are changed. {not_applied(adapter)}".rstrip()


def _convert(arguments: argparse.Namespace, _reporter: _Reporter) -> str:
    if arguments.weights and arguments.source is None:
        return _convert_installed(arguments.weights)
    if arguments.target is None:
        raise ProtocolError("Name MODEL_PT and SAFETENSORS, or the weights folder with --weights.")
    return _converted(arguments.source, arguments.target)


def _convert_installed(root: Path) -> str:
    """The student, from wherever its pickle lies below the folder; recorded and marked as modified."""
    source = unconverted(root, _STUDENT.id)
    if source is None:
        raise ProtocolError(
            f"There is no {_STUDENT.files[0].path} in {root}; download {_STUDENT.title} first."
        )
    target = root / _STUDENT.id / _STUDENT.weights[0]
    target.parent.mkdir(exist_ok=True)
    sentence = _converted(source, target)
    record = installed(root, _STUDENT.id)
    entry = {"size": target.stat().st_size, "sha256": sha256_of(target)}
    record_installed(root, _STUDENT.id, {**record, "files": {**record.get("files", {}), target.name: entry}})
    write_modified(root, _STUDENT, f"{target.name} holds the generator of {source.name}, mostly in bf16.")
    return sentence


def _quantize(arguments: argparse.Namespace, reporter: _Reporter) -> str:
    root, component, format = arguments.weights, COMPONENTS[arguments.component], arguments.format
    source = find(root, component.id)
    if source is None:
        remedy = (
            "convert it first with weights convert"
            if unconverted(root, component.id)
            else "download it first"
        )
        raise ProtocolError(f"{component.title} is not in {root}; {remedy}.")
    try:
        from ..quantization.quantize import quantize_checkpoint
    except ModuleNotFoundError as error:
        raise ProtocolError(f"The backend was set up without {error.name}; set it up again.") from None
    name = quantized_name(component.id, format)
    target = arguments.target or root / name

    def on_tensor(done: int, tensors: int) -> None:
        reporter("quantize", f"{component.title}: quantising", done / tensors)

    is_refiner = component.id.startswith("refiner")
    quantize_checkpoint(source, target, format, component.weights[0], is_refiner, on_tensor)
    if target.resolve() == (root / name).resolve():
        quantized.PARTS[name].record(root)
    sound = " and leaves out what makes sound" if is_refiner else ""
    write_modified(
        root,
        component,
        f"{target.name}/{component.weights[0]} holds the linears of the blocks in {format} and the rest mostly in "
        f"bf16{sound}.",
        name,
    )
    return f"{target} is written."


def _converted(source: Path, target: Path) -> str:
    from .streaming_release import convert_training_checkpoint, recorded_steps, spelled

    written = convert_training_checkpoint(source, target)
    steps = recorded_steps(target)
    trained = f"It was trained with the steps {spelled(steps)}." if steps else "It does not say its steps."
    return f"{target} {'is written' if written else 'was up to date'}.\n{trained}"


def _show_terms(ids: Sequence[str]) -> None:
    for id in ids:
        component = COMPONENTS[id]
        licence = LICENCES[component.licence]
        revision = component.revision or "the newest commit"
        print(f"{component.title}, {_size(component)}, from {component.repository} at {revision}")
        print(*(f"  {line}" for line in licence.terms.splitlines()), sep="\n")


def _chosen(arguments: argparse.Namespace, otherwise: Sequence[str] = ()) -> list[str]:
    ids = list(
        dict.fromkeys([*arguments.components, *(needed_for(arguments.preset) if arguments.preset else ())])
    )
    if not ids and not otherwise:
        raise ProtocolError(f"Name components ({', '.join(COMPONENTS)}) or a preset of SANA-WM.")
    return ids or list(otherwise)


def _size(component: Component) -> str:
    return f"{component.size_gb:.2f} GB" if component.size_gb else "? GB"


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is no strength; use a number such as 1")
    return value


def _component(text: str) -> str:
    if text not in COMPONENTS:
        raise argparse.ArgumentTypeError(f"there is no component {text}; there are {', '.join(COMPONENTS)}")
    return text


def _component_or_quantized(text: str) -> str:
    return text if text in quantized.PARTS else _component(text)


def _quantizable(text: str) -> str:
    if not quantized.is_quantizable(_component(text)):
        raise argparse.ArgumentTypeError(f"{COMPONENTS[text].title} has no linears that are quantised")
    return text


def _licences(text: str) -> list[str]:
    ids = text.split(",")
    if not set(ids) <= set(LICENCES):
        raise argparse.ArgumentTypeError(f"{text} are not licenses; there are {', '.join(LICENCES)}")
    return ids


def _preset(name: str) -> Preset:
    try:
        return Preset.load(_PRESETS / f"{name}.json")
    except ProtocolError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _stop_on_signals() -> None:
    """Asked to end, it ends as by Ctrl+C."""

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)


class _Reporter:
    """Says how far it is: as events, for Blender, or as lines for people."""

    def __init__(self, is_json: bool) -> None:
        self._is_json = is_json
        self._fraction = 0.0
        self._said = ""

    def __call__(self, stage: str, message: str, fraction: float) -> None:
        self._fraction = fraction
        if self._is_json:
            event = {"time": time.time(), "kind": "progress", "stage": stage, "message": message}
            print(json.dumps({**event, "fraction": round(fraction, 4)}), flush=True)
        elif message and message != self._said:
            print(message, flush=True)
        self._said = message

    def end(self, stage: str, message: str) -> None:
        """The last word: `done`, `failed` or `cancelled`."""
        if stage == "failed" and not self._is_json:
            print(message, file=sys.stderr)
        else:
            self(stage, message, 1.0 if stage == "done" else self._fraction)
