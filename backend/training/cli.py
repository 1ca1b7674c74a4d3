# SPDX-License-Identifier: GPL-3.0-or-later
"""python -m backend train STEP: the embedded model from nothing to the files that ship.

The steps in their order: data, codec, network, card, export. Each goes on where it was stopped. Then precision, which
needs none of them: what NVFP4 costs the files that ship.
The model of the guidance study has a configuration of its own (--config configs/camera_only.json) and the steps data,
camera-only and guidance-study.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from ..weights.embedded import FOLDER, save_embedded
from .clip_files import project_missing
from .config import RecipeConfig
from .fit_codec import codec_psnr, fit_codec
from .residual_flow import train, trained_model
from .scene_files import render_missing

DEFAULT_CONFIG = Path(__file__).parent / "configs" / "embedded.json"


def main(argv: list[str]) -> int:
    """Run one step; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m backend train", description=__doc__)
    parser.add_argument("step", choices=tuple(_STEPS), help="what to do")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: the embedded model's")
    parser.add_argument("--until", type=int, metavar="STEP", help="of network: stop after this many steps")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        config = RecipeConfig.load(arguments.config)
        for line in _STEPS[arguments.step](config, arguments):
            print(time.strftime("%H:%M:%S"), line, flush=True)
    except (OSError, ValueError) as error:
        print(f"The training step {arguments.step} cannot run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _data(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    yield from render_missing(config)
    yield from project_missing(config)


def _codec(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    codec = fit_codec(config)
    yield f"the codec keeps {codec_psnr(config, codec):.2f} dB of the held-out clips"


def _network(config: RecipeConfig, arguments: argparse.Namespace) -> Iterator[str]:
    yield from train(config, arguments.until)


def _card(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    from .report import heldout_report

    yield from heldout_report(config, trained_model(config))


def _precision(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    from .precision import precision_report

    yield from precision_report(config)


def _export(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    card = Path(config.folder) / "card.json"
    if not card.exists():
        raise FileNotFoundError(f"there is no {card}, which decides the network's strength; run card first.")
    model = trained_model(config)
    model.config = replace(model.config, default_blend=json.loads(card.read_text())["default_blend"])
    save_embedded(model, FOLDER)
    yield f"written to {FOLDER}; the presets' network_blend has to be {model.config.default_blend}"


def _camera_only(config: RecipeConfig, arguments: argparse.Namespace) -> Iterator[str]:
    from .camera_only import train as train_camera_only

    yield from train_camera_only(config, arguments.until)


def _guidance_study(config: RecipeConfig, _: argparse.Namespace) -> Iterator[str]:
    from .guidance_study import study

    yield from study(config)


_STEPS: dict[str, Callable[[RecipeConfig, argparse.Namespace], Iterator[str]]] = {
    "data": _data,
    "codec": _codec,
    "network": _network,
    "card": _card,
    "export": _export,
    "precision": _precision,
    "camera-only": _camera_only,
    "guidance-study": _guidance_study,
}
