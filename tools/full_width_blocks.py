# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks of the released width, read from the disk one by one, in the memory of one.

    python -m tools.full_width_blocks [--folder DIR] [--blocks 4] [--frames 3] [--size 640x352]

Writes a stage-1 model and a refiner with so many blocks of full width, random and in bf16 as they are released, runs
one forward of each on the CPU in fp32, streamed and then resident, and prints the memory that each took. Resident
memory is what the system counts as the process's own, sampled while it works; mapped files are not in it.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from backend.models.refiner import RefinerConfig, RefinerRun, RefinerTransformer, load_refiner
from backend.models.stage1 import Stage1Config, Stage1Transformer, load

from .bench_stage1 import status_mb

MODELS = ("stage1", "refiner")
_SAMPLE_S = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, help="where the weights are written (default: a temporary folder)"
    )
    parser.add_argument(
        "--blocks", type=int, default=4, help="of each model (default 4: the last of stage 1 is softmax)"
    )
    parser.add_argument("--frames", type=int, default=3, help="latent frames beside the first (default 3)")
    parser.add_argument("--size", default="640x352", help="clip size, multiples of 32 (default 640x352)")
    parser.add_argument("--run", nargs=2, metavar=("MODEL", "LAYOUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments, *arguments.run)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        for model in MODELS:
            write(model, arguments.blocks, folder / model)
            for layout in ("streamed", "resident"):
                # A process each: what one has freed the other would reuse.
                command = [sys.executable, "-m", "tools.full_width_blocks", "--run", model, layout]
                for name in ("blocks", "frames", "size"):
                    command += [f"--{name}", str(getattr(arguments, name))]
                subprocess.run([*command, "--folder", str(folder)], check=True)


def write(model: str, blocks: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        network = build(model, blocks)
    tensors = {
        name: torch.empty(tensor.shape, dtype=torch.bfloat16).normal_(std=0.5 / math.sqrt(tensor.shape[-1]))
        for name, tensor in network.state_dict().items()
    }
    for name in tensors:
        if name.endswith(("norm.weight", "norm_cam.weight", "norm_q.weight", "norm_k.weight")):
            tensors[name].fill_(1)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"num_layers": blocks, "rope_type": "split"}))
    size_gb = (folder / "model.safetensors").stat().st_size / 1e9
    largest = max(sum(p.numel() for p in block.parameters()) for block in blocks_of(network))
    print(
        f"{model}: {blocks} blocks, the largest of {largest:,} parameters, {size_gb:.2f} GB in bf16",
        flush=True,
    )


def build(model: str, blocks: int) -> nn.Module:
    if model == "stage1":
        return Stage1Transformer(replace(Stage1Config(), num_layers=blocks))
    return RefinerTransformer(replace(RefinerConfig(), num_layers=blocks))


def blocks_of(network: nn.Module) -> nn.ModuleList:
    return network.blocks if isinstance(network, Stage1Transformer) else network.transformer_blocks


@torch.inference_mode()
def run(arguments: argparse.Namespace, model: str, layout: str) -> None:
    torch.set_flush_denormal(True)
    width, height = (int(side) // 32 for side in arguments.size.split("x"))
    streamed, folder = layout == "streamed", arguments.folder / model
    forward = stage1_forward if model == "stage1" else refiner_forward
    started, before = time.monotonic(), status_mb("RssAnon")
    with sampled_peak() as peak:
        output = forward(folder, arguments.blocks, streamed, (arguments.frames + 1, height, width))
    finite = "finite" if torch.isfinite(output).all() else "NOT FINITE"
    print(
        f"  {layout}: {peak() - before:,.0f} MB at most, {time.monotonic() - started:.0f} s, output "
        f"{tuple(output.shape)} {finite}, its norm {output.norm():.6f}",
        flush=True,
    )


def stage1_forward(folder: Path, blocks: int, streamed: bool, grid: tuple[int, int, int]) -> torch.Tensor:
    torch.manual_seed(0)
    frames, height, width = grid
    config = replace(Stage1Config(), num_layers=blocks)
    network = load(folder / "model.safetensors", config, torch.float32, streamed=streamed)
    lens = torch.tensor([0.9 * width, 0.9 * width, width / 2, height / 2])
    camera = torch.cat([torch.eye(4).flatten(), lens]).expand(1, frames, 20)
    timesteps = torch.full((1, 1, frames), 623.0)
    text, plucker = torch.randn(1, 1, 300, 2304), torch.randn(1, 48, *grid)
    return network(torch.randn(1, 128, *grid), timesteps, text, torch.ones(1, 300), camera, plucker)


def refiner_forward(folder: Path, _blocks: int, streamed: bool, grid: tuple[int, int, int]) -> torch.Tensor:
    torch.manual_seed(0)
    frames, *cells = grid
    model = load_refiner(folder, torch.float32, streamed=streamed)
    refiner = RefinerRun(model, torch.randn(1, 1024, 3840), tuple(cells), window=11)
    refiner.begin(torch.randn(1, 128, 1, *cells))
    refiner.place(slice(1, frames))
    return refiner.velocity(torch.randn(1, 128, frames - 1, *cells), 0.909375)


@contextmanager
def sampled_peak() -> Iterator[Callable[[], float]]:
    """The process's own memory in MB at most, while the context lasts."""
    highest, done = status_mb("RssAnon"), threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(_SAMPLE_S):
            highest = max(highest, status_mb("RssAnon"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: highest
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
