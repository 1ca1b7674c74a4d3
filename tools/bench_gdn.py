# SPDX-License-Identifier: GPL-3.0-or-later
"""Both Gated DeltaNet branches beside diffusers' own, from the projections' outputs to the attention's outputs.

That is: short convolution, norm, ReLU, scale, rotation or ray coordinates, the scan and its read, and the way back from
ray coordinates. In the place of every linear stands what hands out a tensor that was prepared before. fp32, one thread.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.stage1_reference import camera_poses, make_pair, randn

from .bench_stage1 import CELLS, ENTRIES, ROOT, added_peak_mb, in_turns, ratio

FRAMES, QUICK_FRAMES, REPEATS = 31, 5, 5
TARGETS = {"gdn_time_ratio": 0.3, "gdn_memory_ratio": 0.35}
_WIDTH, _HEADS = ENTRIES["hidden_size"], ENTRIES["num_attention_heads"]
# Output channels of each linear before the branches.
_PROJECTED = {
    "qkv": 3 * _WIDTH,
    "q_proj_cam": _WIDTH,
    "k_proj_cam": _WIDTH,
    "v_proj_cam": _WIDTH,
    "beta_proj": _HEADS,
    "gate_proj": _HEADS,
}


class Prepared(nn.Module):
    """Hands out a tensor in the place of a linear; `renew` undoes what its taker wrote to it."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.source, self.given = tensor, tensor.clone()

    def renew(self) -> None:
        self.given.copy_(self.source)

    def forward(self, _: Tensor) -> Tensor:
        return self.given


def run(quick: bool) -> list[dict]:
    """The ratios of time and of peak memory; `quick` takes 5 latent frames instead of 31."""
    torch.set_flush_denormal(True)
    frames = QUICK_FRAMES if quick else FRAMES
    with torch.inference_mode():
        sides = {side: _prepared(side, frames) for side in ("ours", "theirs")}

        def renew() -> None:
            for _, linears in sides.values():
                for linear in linears:
                    linear.renew()

        own_s, their_s = in_turns(sides["ours"][0], sides["theirs"][0], REPEATS, renew)
    own_mb, their_mb = (_peak_mb(side, frames) for side in ("ours", "theirs"))
    what = f"one block's two branches, {frames} latent frames of 11 x 20, fp32"
    time_row = ratio("gdn_time_ratio", own_s, their_s, "s", f"{what}, median of {REPEATS}", TARGETS)
    memory = f"{what}, peak resident memory above the projections' outputs, a fresh process for each side"
    return [time_row, ratio("gdn_memory_ratio", own_mb, their_mb, "MB", memory, TARGETS)]


def _prepared(side: str, frames: int) -> tuple[Callable[[], object], list[Prepared]]:
    """A call of both branches of the first block, and what stands in the place of its linears."""
    grid = (frames, *CELLS)
    reference, ours = make_pair({**ENTRIES, "num_layers": 1}, 1)
    camera = camera_poses(grid)
    tokens = (frames, CELLS[0] * CELLS[1]) if side == "ours" else (frames * CELLS[0] * CELLS[1],)
    attention = (ours if side == "ours" else reference).blocks[0].attn
    linears = []
    for seed, (name, channels) in enumerate(_PROJECTED.items()):
        shape = (1, frames, channels) if name == "gate_proj" else (1, *tokens, channels)
        linears.append(Prepared(randn(shape, seed)))
        setattr(attention, name, linears[-1])
    x = randn((1, *tokens, _WIDTH), 20)
    if side == "ours":
        text, mask = torch.zeros(1, 1, 4, 256), torch.ones(1, 4)
        shared = ours.condition(text, mask, camera, None, grid)
        return lambda: attention.branches(x, shared, None, False), linears
    from diffusers.models.transformers.transformer_sana_wm import _prepare_ucpe_ray_transforms

    rotary = reference.rope(grid)
    rays = _prepare_ucpe_ray_transforms(ENTRIES["linear_head_dim"], camera, grid, (1, 1, 1), rotary)
    attention.use_output_gate = False
    attention.proj = attention.out_proj_cam = nn.Identity()
    given = {"HW": grid, "rotary_emb": rotary, "camera_conditions": camera, "ucpe_ray_transforms": rays}
    return lambda: attention(x, **given), linears


def _peak_mb(side: str, frames: int) -> float:
    command = [sys.executable, "-m", "tools.bench_gdn", side, str(frames)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


@torch.inference_mode()
def _print_peak(side: str, frames: int) -> None:
    """In a process of its own: resident memory that one call adds to its inputs."""
    torch.set_num_threads(1)
    small, _ = _prepared(side, 1)
    small()  # loads what the libraries load lazily
    call, _ = _prepared(side, frames)
    print(added_peak_mb(call))


if __name__ == "__main__":
    _print_peak(sys.argv[1], int(sys.argv[2]))
