# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m backend train STEP: recipes of stage 1, and the embedded model from nothing to the files that ship.

Recipes of stage 1, each with a configuration of its own: flow_matching, chunk_causal, trajectories and ode_init,
self_forcing; docs/training.md has them. The embedded model's steps in their order: clips, codec (or the one that ships
is used), network, card, export; then precision, which needs none of them: what NVFP4 costs the files that ship. Card
alone gives their figures too.
The model that knows no geometry has the steps data, camera-only, camera-study, which can also be asked while it is
trained, and guidance-study (--config configs/camera_only.json, or camera_long.json for hours).
Every step goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from ..weights.embedded import FOLDER, add_variant, load_embedded, save_embedded
from .clip_files import project_missing
from .config import RecipeConfig
from .detail_clips import make_missing
from .fit_codec import codec_psnr, fit_codec
from .loop import CHECKPOINT, Progress
from .residual_flow import train, trained_model
from .scene_files import render_missing

_BAR = 30
CARD = "card"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DEFAULT_CONFIG = Path(__file__).parent / "configs" / "embedded.json"


def main(argv: list[str]) -> int:
    """Run one step; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m backend train", description=__doc__)
    parser.add_argument("step", choices=(*_STEPS, *_STAGE1_STEPS), help="what to do")
    parser.add_argument(
        "--config", type=Path, help="of a recipe of stage 1 always; else by default the embedded model's"
    )
    parser.add_argument("--until", type=int, metavar="STEP", help="of training: stop after this many steps")
    parser.add_argument(
        "--to", type=Path, default=FOLDER, metavar="DIR", help="of export: where the weights go"
    )
    parser.add_argument(
        "--variant",
        nargs=2,
        metavar=("NAME", "FILE"),
        help="of export: only give chunk_causal or streaming a network of its own, the result of a recipe of stage 1",
    )
    parser.add_argument("--device", default="cpu", help="of a recipe of stage 1: cpu (the default) or cuda")
    arguments = parser.parse_args(argv)
    try:
        for report in _reports(arguments):
            _show(report)
    except (OSError, ValueError, FloatingPointError) as error:
        is_full = isinstance(error, OSError) and error.errno in _DISK_FULL
        why = (
            f"{error}. The last checkpoint is whole; make room, and start the same command again."
            if is_full
            else error
        )
        print(f"The training step {arguments.step} cannot run: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _reports(arguments: argparse.Namespace) -> Iterator[Progress | str]:
    if arguments.step in _STAGE1_STEPS:
        if arguments.config is None:
            raise ValueError(
                "name its configuration: --config FILE; examples are in backend/training/configs."
            )
        return _stage1(arguments)
    torch.set_num_threads(1)
    config = RecipeConfig.load(arguments.config or DEFAULT_CONFIG)
    return _STEPS[arguments.step](config, arguments)


def _stage1(arguments: argparse.Namespace) -> Iterator[Progress | str]:
    from .stage1_config import Stage1Run
    from .stage1_data import data_of, with_trajectories
    from .stage1_training import RECIPES, make_trajectories, train

    makes_trajectories = arguments.step == "trajectories"
    name = "ode_init" if makes_trajectories else arguments.step
    config = Stage1Run.load(arguments.config, RECIPES[name].settings_type)
    data = data_of(config)
    if makes_trajectories:
        return make_trajectories(config, data, arguments.device)
    if name == "ode_init":
        data = with_trajectories(data, config)
    return train(name, config, data, arguments.device, arguments.until)


def _show(report: Progress | str) -> None:
    """A bar that moves in a terminal, lines elsewhere; in several processes the first one speaks."""
    if os.environ.get("RANK", "0") != "0":
        return
    is_step = isinstance(report, Progress)
    if sys.stdout.isatty():
        if is_step:
            done = round(_BAR * report.step / report.steps)
            print(f"\r\033[K[{'#' * done}{'.' * (_BAR - done)}] {report}", end="", flush=True)
            return
        print("\r\033[K", end="")
    elif is_step and report.step % 10 and report.step != report.steps:
        return
    print(time.strftime("%H:%M:%S"), report, flush=True)


def _data(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    yield from render_missing(config)
    yield from project_missing(config)


def _clips(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    yield from make_missing(config)


def _codec(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    codec = fit_codec(config)
    yield f"the codec keeps {codec_psnr(config, codec):.2f} dB of the held-out clips"


def _network(config: RecipeConfig, arguments: argparse.Namespace) -> Iterator[str]:
    yield from train(config, arguments.until)


def _card(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    """Of the last checkpoint; where nothing was trained, of the files that ship."""
    from .picture_tables import generated_scenes, tables

    has_trained = (Path(config.folder) / CHECKPOINT).exists()
    model = trained_model(config) if has_trained else load_embedded()
    yield from tables(model, generated_scenes(), Path(config.folder) / CARD)


def _precision(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    from .precision import precision_report

    yield from precision_report(config)


def _export(config: RecipeConfig, arguments: argparse.Namespace) -> Iterator[str]:
    if arguments.variant:
        variant, file = arguments.variant
        if variant not in ("chunk_causal", "streaming"):
            raise ValueError(
                f"there is no variant {variant} with a network of its own; name chunk_causal or streaming."
            )
        add_variant(load_file(file), variant, arguments.to)
        yield f"{variant} has a network of its own in {arguments.to}"
        return
    card = Path(config.folder) / CARD / "table.json"
    if not card.exists():
        raise FileNotFoundError(f"there is no {card}, which decides the network's strength; run card first.")
    model = trained_model(config)
    model.config = replace(model.config, default_blend=json.loads(card.read_text())["default_blend"])
    save_embedded(model, arguments.to)
    yield f"written to {arguments.to}; network_blend of the presets Final has to be {model.config.default_blend}"


def _camera_only(config: RecipeConfig, arguments: argparse.Namespace) -> Iterator[str]:
    from .camera_only import train as train_camera_only

    yield from train_camera_only(config, arguments.until)


def _guidance_study(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    from .guidance_study import study

    yield from study(config)


def _camera_study(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    from .camera_study import study

    yield from study(config)


_STAGE1_STEPS = ("flow_matching", "chunk_causal", "trajectories", "ode_init", "self_forcing")
_STEPS: dict[str, Callable[[RecipeConfig, argparse.Namespace], Iterator[str]]] = {
    "data": _data,
    "clips": _clips,
    "codec": _codec,
    "network": _network,
    "card": _card,
    "export": _export,
    "precision": _precision,
    "camera-only": _camera_only,
    "camera-study": _camera_study,
    "guidance-study": _guidance_study,
}
