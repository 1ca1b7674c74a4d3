# SPDX-License-Identifier: GPL-3.0-or-later
"""One forward of the released architecture, 2.66 G parameters, with random weights on a CPU.

    python -m tools.full_size_forward [--frames 3] [--size 640x352]

Shows that the full model builds, runs and stays in bounded memory; the weights are made in place, tensor by
tensor, in fp32 (10.6 GB). Numbers that come out mean nothing.
"""

from __future__ import annotations

import argparse
import math
import resource
import time

import torch

from backend.models.stage1 import Stage1Config, Stage1Transformer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=3, help="latent frames (default 3: 17 pixel frames)")
    parser.add_argument("--size", default="640x352", help="clip size, multiples of 32 (default 640x352)")
    arguments = parser.parse_args()
    width, height = (int(side) // 32 for side in arguments.size.split("x"))
    grid = (arguments.frames, height, width)
    torch.set_flush_denormal(True)
    started = time.monotonic()
    model = random_model(Stage1Config())
    weights_gb = sum(p.numel() * p.element_size() for p in model.parameters()) / 1e9
    print(f"{weights_gb:.2f} GB of weights in {time.monotonic() - started:.0f} s, peak {peak_gb():.2f} GB")
    camera = torch.eye(4).flatten().expand(1, grid[0], 16)
    lens = torch.tensor([0.9 * width, 0.9 * width, width / 2, height / 2]).expand(1, grid[0], 4)
    timesteps = torch.full((1, 1, grid[0]), 623.0)
    timesteps[..., 0] = 0
    started = time.monotonic()
    with torch.inference_mode():
        velocity = model(
            torch.randn(1, 128, *grid),
            timesteps,
            torch.randn(1, 1, 300, 2304),
            torch.ones(1, 300),
            torch.cat([camera, lens], dim=-1),
            torch.randn(1, 48, *grid),
        )
    finite = bool(torch.isfinite(velocity).all())
    print(
        f"one forward of {math.prod(grid)} tokens in {time.monotonic() - started:.0f} s on "
        f"{torch.get_num_threads()} threads, peak {peak_gb():.2f} GB, output {tuple(velocity.shape)}, "
        f"{'finite' if finite else 'NOT FINITE'}"
    )


def random_model(config: Stage1Config) -> Stage1Transformer:
    """The architecture with weights scaled by their fan-in, without a second copy in memory."""
    with torch.device("meta"):
        model = Stage1Transformer(config)
    model.to_empty(device="cpu").requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if name.endswith(("norm.weight", "norm_cam.weight")):
            tensor.fill_(1)
        else:
            tensor.normal_(std=1 / math.sqrt(max(1, math.prod(tensor.shape[1:]))))
    return model.eval()


def peak_gb() -> float:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
