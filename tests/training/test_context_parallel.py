# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames of a clip in two and in four processes: outputs and gradients are those of one process."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist

from backend.models.stage1 import Stage1Config, Stage1Transformer
from backend.models.stage1.attention import convolved_keys
from backend.models.stage1.conditioning import Conditioning, chunk_slices
from backend.models.stage1.context import ContextGroup
from backend.models.stage1.feed_forward import TemporalConv
from backend.models.stage1.layers import RMSNorm, TemporalShortConv
from kernels.camera_gdn.vectorized import camera_gdn
from kernels.frame_gdn.vectorized import frame_gdn
from tests.stage1_inputs import camera_poses, randn, randomize
from tests.training.ranks import PATIENCE_S, run_ranks

FRAMES, CELLS = 14, (2, 2)
SIZES = {
    "in_channels": 8, "out_channels": 8, "num_layers": 2, "softmax_every_n": 2, "hidden_size": 32, "head_dim": 16,
    "num_cross_heads": 2, "caption_channels": 8, "mlp_ratio": 1.0, "softmax_in_bf16": False,
}  # fmt: skip
# One chunk; chunks that begin where processes do and elsewhere; chunks of one frame.
CHUNKS = {"one chunk": (0,), "chunks of three": (0, 5, 8, 11), "short chunks": (0, 1, 2, 7, 12, 13)}


def gdn_inputs() -> dict[str, torch.Tensor]:
    """Non-negative q and k of a length that keeps the state stable, gates in (0, 1)."""
    shape = (2, FRAMES, 5, 2, 8)
    q, k, v = (randn(shape, seed) for seed in (1, 2, 3))
    beta, decay = randn(shape[:-1], 4).sigmoid(), randn((2, FRAMES, 2), 5).sigmoid()
    return {"q": q.relu(), "k": k.relu() / 40**0.5, "v": v, "beta": beta, "decay": decay}


def of_main(given, rotary, chunks, share, own):
    if share is None:
        return frame_gdn(**given, rotary=rotary, chunks=chunks)[0]
    return share.frame_gdn(**given, rotary=rotary[own])


def of_camera(given, rotary, chunks, share, own):
    to_ray = torch.eye(4).repeat(2, FRAMES, 5, 1, 1)
    to_ray[..., :3, :3] = torch.linalg.qr(randn((2, FRAMES, 5, 3, 3), 11))[0]
    to_ray[..., :3, 3] = randn((2, FRAMES, 5, 3), 12)
    matrices = to_ray[:, own], torch.linalg.inv(to_ray)[:, own]
    rays = *matrices, rotary[own, :, ::2].contiguous()
    total = 0
    for renormalize in (False, True):
        if share is None:
            total = total + camera_gdn(**given, rays=rays, chunks=chunks, renormalize=renormalize)[0]
        else:
            total = total + share.camera_gdn(**given, rays=rays, renormalize=renormalize)
    return total


def of_short_conv(given, rotary, chunks, share, own):
    conv = TemporalShortConv(6, 4)
    conv.weight = torch.nn.Parameter(given["weight"])
    shared = Conditioning((FRAMES, 5, 1), rotary, None, None, chunks, [], share)
    total = 0
    for crosses in (True, False):
        total = total + convolved_keys(given["x"], RMSNorm(6, 1e-5), conv, 1.0, shared, None, crosses)
    given["weight"].extra = conv.weight
    return total


def of_temporal_conv(given, rotary, chunks, share, own):
    conv = TemporalConv(6)
    conv.weight = torch.nn.Parameter(given["weight"])
    given["weight"].extra = conv.weight
    return conv(given["x"], chunks, None, share)


LAYERS = {
    "Gated DeltaNet, main branch": (of_main, gdn_inputs),
    "Gated DeltaNet, camera branch": (of_camera, gdn_inputs),
    "short convolution": (of_short_conv, lambda: {"x": randn((2, FRAMES, 5, 6), 6), "weight": randn((6, 1, 4), 7)}),
    "temporal convolution of the FFN": (
        of_temporal_conv, lambda: {"x": randn((2, FRAMES, 5, 6), 6), "weight": randn((6, 6, 3, 1), 8)},
    ),
}  # fmt: skip


def outcome(layer: str, starts: tuple[int, ...], context: ContextGroup | None) -> dict[str, torch.Tensor]:
    """Output and gradients of a layer, those of a process's own frames or all; weights' gradients summed up."""
    function, make = LAYERS[layer]
    chunks = chunk_slices(starts, FRAMES)
    share = None if context is None else context.share(FRAMES, chunks)
    own = slice(0, FRAMES) if share is None else share.own
    angle = randn((FRAMES, 5, 4), 9)
    rotary = torch.polar(torch.ones_like(angle), angle)
    given = {
        name: (value if name == "weight" else value[:, own]).clone().requires_grad_()
        for name, value in make().items()
    }
    local = chunks if share is None else share.chunks()
    out = function(given, rotary, local, share, own)
    (out * randn((2, FRAMES, *out.shape[2:]), 10)[:, own]).sum().backward()
    found = {"output": out.detach()}
    for name, value in given.items():
        found[name] = getattr(value, "extra", value).grad
    if context is not None and "weight" in found:
        dist.all_reduce(found["weight"])
    return found


def model_outcome(starts: tuple[int, ...], context: ContextGroup | None) -> dict[str, torch.Tensor]:
    """Velocity and parameters' gradients of a whole stage 1 with Gated DeltaNet and softmax."""
    model = Stage1Transformer(Stage1Config(**SIZES))
    randomize(model, 3)
    chunks, grid = chunk_slices(starts, FRAMES), (FRAMES, *CELLS)
    share = None if context is None else context.share(FRAMES, chunks)
    own = slice(0, FRAMES) if share is None else share.own
    timesteps = torch.linspace(900, 100, FRAMES).expand(1, 1, -1)
    out = model(
        randn((1, 8, *grid), 1)[:, :, own], timesteps[..., own], randn((1, 1, 3, 8), 2), torch.ones(1, 3),
        camera_poses(grid)[:, own], randn((1, 48, *grid), 3)[:, :, own], starts if share is None else (0,), share,
    )  # fmt: skip
    (out * randn((1, 8, *grid), 4)[:, :, own]).sum().backward()
    found = {"output": out.detach().transpose(1, 2)}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f"weight {name}"] = parameter.grad
            if context is not None:
                dist.all_reduce(parameter.grad)
    return found


def all_outcomes(rank: int) -> dict[str, dict[str, torch.Tensor]]:
    dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE_S))
    context = ContextGroup(dist.group.WORLD)
    found = {
        (layer, case): outcome(layer, starts, context) for layer in LAYERS for case, starts in CHUNKS.items()
    }
    found |= {("stage 1", case): model_outcome(starts, context) for case, starts in CHUNKS.items()}
    dist.destroy_process_group()
    return {key: {name: value.numpy() for name, value in row.items()} for key, row in found.items()}


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_equal_one(count):
    parts = run_ranks(all_outcomes, count)
    for (what, case), found in parts[0].items():
        starts = CHUNKS[case]
        expected = model_outcome(starts, None) if what == "stage 1" else outcome(what, starts, None)
        assert set(found) == set(expected)
        for name, value in expected.items():
            pieces = [torch.from_numpy(part[what, case][name]) for part in parts]
            joined = pieces[0] if name.startswith("weight") else torch.cat(pieces, dim=1)
            error = float((joined - value).abs().max() / value.abs().max().clamp(min=1))
            allowed = 1e-5 if name == "output" else 1e-4
            assert error <= allowed, f"{what}, {case}, {count} processes: {name} differs by {error:.1e}"
