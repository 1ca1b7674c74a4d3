# SPDX-License-Identifier: GPL-3.0-or-later
"""Training in several processes under torchrun: weights sharded over all of them, frames over some.

With FSDP2 (`fully_shard`) every process keeps a part of weights, average and optimiser, and gathers a module's weights
when the module runs. Gradients are averaged over all processes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.utils.checkpoint import checkpoint

from ..models.stage1 import Stage1Transformer
from ..models.stage1.context import ContextGroup
from .ranks import ALONE, Ranks
from .stage1_config import ParallelSettings


@contextmanager
def processes(settings: ParallelSettings, device: str) -> Iterator[tuple[Ranks, DeviceMesh | None, str]]:
    """This process's place, the mesh of all, None for a process by itself in fp32, and its own device.

    Raises:
        ValueError: the processes cannot be divided as the settings say.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count % settings.context_ranks:
        raise ValueError(
            f"{count} processes cannot be divided into groups of {settings.context_ranks} (parallel.context_ranks); "
            "start a multiple of it with torchrun --nproc-per-node."
        )
    if count == 1 and settings.precision == "fp32":
        yield ALONE, None, device
        return
    kind = torch.device(device).type
    if kind == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group(backend)
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        grid = count // settings.context_ranks, settings.context_ranks
        mesh = init_device_mesh(kind, grid, mesh_dim_names=("replica", "context"))
        context = ContextGroup(mesh.get_group("context")) if settings.context_ranks > 1 else None
        ranks = Ranks(mesh.get_local_rank("replica"), grid[0], context, dist.get_rank() == 0)
        yield ranks, mesh["replica", "context"]._flatten("all"), device
    finally:
        dist.destroy_process_group()


def shard(model: Stage1Transformer, mesh: DeviceMesh, settings: ParallelSettings) -> None:
    """Leave this process its part of the weights, and a model that is called as before."""
    # It warns of outputs that are views and might be written to; where gradients are recorded stage 1 never does.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")
    policy = MixedPrecisionPolicy()
    if settings.precision == "bf16":
        # Inputs stay as they are: timesteps and camera poses do not survive bf16, and stage 1 casts what it may.
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    for block in model.blocks:
        for module in (block.attn, block.cross_attn, block.mlp):
            fully_shard(module, mesh=mesh, mp_policy=policy)
        # The prompt's keys are computed before the blocks run.
        register_fsdp_forward_method(block.cross_attn, "text_keys")
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for name in ("condition_blocks", "condition_frames", "denoise"):
        register_fsdp_forward_method(model, name)


def recompute(model: Stage1Transformer) -> None:
    """Keep nothing of a block's forward pass but its inputs; the backward pass computes the block again."""
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
