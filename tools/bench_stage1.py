# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1 beside diffusers' SanaWMTransformer3DModel: equal weights, equal inputs, one thread, fp32.

Times are taken in turns in one process. Peak memory is taken in a process of its own for each side, because
what one side has freed the other would reuse.
"""

from __future__ import annotations

import ctypes
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from backend.models.stage1 import Stage1Transformer
from backend.sampling.flow_euler import guided, sample, sigma_schedule
from tests.stage1_reference import camera_poses, make_pair, pipeline_loop, randn

ENTRIES = {
    "in_channels": 128,
    "num_layers": 8,
    "hidden_size": 448,
    "num_attention_heads": 4,
    "linear_head_dim": 112,
    "caption_channels": 256,
    "chunk_plucker_post_attn_blocks": 8,
}
FRAMES, SAMPLER_FRAMES = (3, 11, 31), 11
CELLS = (11, 20)
PROMPT_TOKENS = 40
REPEATS, SAMPLER_STEPS = 5, 20
TARGETS = {
    "stage1_time_ratio": 0.55,
    "stage1_memory_ratio": 0.6,
    "stage1_peak_share": 0.8,
    "sampler_time_ratio": 0.65,
}
ROOT = Path(__file__).resolve().parents[1]


def run(quick: bool) -> list[dict]:
    """All figures of stage 1; `quick` leaves out 31 frames and samples 3 steps of 3 frames."""
    torch.set_flush_denormal(True)
    reference, ours = make_pair(ENTRIES, 1)
    rows, frames = [], FRAMES[:-1] if quick else FRAMES
    for count in frames:
        rows += _forward_rows(count, count == frames[-1], reference, ours)
    rows.append(_sampler_row(3 if quick else SAMPLER_FRAMES, 3 if quick else SAMPLER_STEPS, reference, ours))
    return rows


def inputs(frames: int) -> tuple[Tensor, ...]:
    """Latents, timesteps, text, mask, camera and Plücker rays for one clip of so many latent frames."""
    grid = (frames, *CELLS)
    timesteps = torch.full((1, 1, frames), 623.0)
    timesteps[..., 0] = 0
    mask = torch.zeros(1, 300)
    mask[:, :PROMPT_TOKENS] = 1
    text, plucker = randn((1, 1, 300, 256), 2), randn((1, 48, *grid), 3)
    return randn((1, 128, *grid), 1), timesteps, text, mask, camera_poses(grid), plucker


def _reference_forward(model: torch.nn.Module, given: tuple[Tensor, ...]) -> Tensor:
    latents, timesteps, text, mask, camera, plucker = given
    return model(latents, timesteps, text, mask=mask, camera_conditions=camera, chunk_plucker=plucker)[0]


@torch.inference_mode()
def _forward_rows(
    frames: int, largest: bool, reference: torch.nn.Module, ours: Stage1Transformer
) -> list[dict]:
    given = inputs(frames)
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _addmm_flop}) as counter:
        ours(*given)
    counts = {str(name): value for name, value in counter.get_flop_counts()["Global"].items()}
    dense = sum(counts[name] for name in ("aten.addmm", "aten.addmm_", "aten.mm", "aten.convolution"))
    softmax_blocks = sum(ours.config.is_softmax(index) for index in range(ours.config.num_layers))
    tokens = frames * CELLS[0] * CELLS[1]
    attention = softmax_blocks * 2 * 4 * tokens**2 * ours.config.hidden_size  # main and camera branch
    rates = []  # of the same minutes as the forwards: other programs slow a shared machine down for a while
    own_s, their_s = in_turns(
        lambda: ours(*given),
        lambda: _reference_forward(reference, given),
        REPEATS,
        lambda: rates.append(matmul_rate()),
    )
    own_mb, their_mb = (_peak_mb(side, frames) for side in ("ours", "theirs"))
    suffix = "" if largest else f"_{frames}_frames"
    conditions = f"one forward, {frames} latent frames of 11 x 20, fp32, median of {REPEATS}"
    memory = "peak resident memory above the loaded weights, a fresh process for each side"
    rows = [
        ratio(f"stage1_time_ratio{suffix}", own_s, their_s, "s", conditions, TARGETS),
        ratio(f"stage1_memory_ratio{suffix}", own_mb, their_mb, "MB", f"{frames} frames, {memory}", TARGETS),
    ]
    if largest:
        done, rate = dense + attention, max(rates)
        rows.append(
            {
                "name": "stage1_peak_share",
                "value": done / own_s / rate,
                "unit": "share",
                "ours": done / own_s / 1e9,
                "theirs": rate / 1e9,
                "target": TARGETS["stage1_peak_share"],
                "conditions": f"{dense / 1e9:.0f} GFLOP of linears and convolutions and {attention / 1e9:.0f} GFLOP of "
                f"softmax attention in {own_s:.1f} s (ours, GFLOP/s) against a 2048-wide fp32 matmul, the best of "
                f"{REPEATS} rounds (theirs); {dense / own_s / rate:.2f} without softmax attention",
            }
        )
    return rows


@torch.inference_mode()
def _sampler_row(frames: int, steps: int, reference: torch.nn.Module, ours: Stage1Transformer) -> dict:
    noise, _, text, mask, camera, plucker = inputs(frames)
    first = noise[:, :, :1].clone()
    text, mask = torch.cat([torch.zeros_like(text), text]), mask.expand(2, -1)

    def own() -> Tensor:
        conditioning = ours.condition(text, mask, camera, plucker, tuple(noise.shape[2:]))
        velocity = guided(lambda latents, timesteps: ours.denoise(latents, timesteps, conditioning))
        return sample(velocity, noise, first, sigma_schedule(steps))

    def theirs() -> Tensor:
        both = camera.expand(2, -1, -1), plucker.expand(2, -1, -1, -1, -1)
        scheduler = FlowMatchEulerDiscreteScheduler(shift=9.8)
        return pipeline_loop(reference, scheduler, noise, first, text, mask, *both, steps)

    own_s, their_s = in_turns(own, theirs, 1)
    conditions = f"{steps} steps with guidance, {frames} latent frames of 11 x 20, fp32, one run each"
    return ratio("sampler_time_ratio", own_s, their_s, "s", conditions, TARGETS)


def _addmm_flop(total: tuple, a: tuple, b: tuple, **_) -> int:
    """Of shapes; the counter knows only the form that is not in place."""
    return 2 * a[0] * a[1] * b[1]


def in_turns(
    own: Callable, theirs: Callable, repeats: int, before: Callable = lambda: None
) -> tuple[float, float]:
    """Median CPU seconds of both, each run once after the other; other programs' time does not count.

    `before` is called before each round and does not count either.
    """
    times = []
    for _ in range(repeats):
        before()
        times.append((_cpu_seconds(own), _cpu_seconds(theirs)))
    own_s, their_s = (statistics.median(side) for side in zip(*times, strict=True))
    return own_s, their_s


def _cpu_seconds(call: Callable) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def matmul_rate() -> float:
    """FLOP/s of a 2048-wide fp32 matmul, the best of five."""
    a, b = torch.randn(2, 2048, 2048).unbind(0)
    return 2 * 2048**3 / min(_cpu_seconds(lambda: a @ b) for _ in range(5))


def ratio(name: str, own: float, their: float, unit: str, conditions: str, targets: dict[str, float]) -> dict:
    conditions = f"{conditions}; sides in {'CPU seconds' if unit == 's' else unit}"
    return {
        "name": name,
        "value": own / their,
        "unit": "ratio",
        "ours": own,
        "theirs": their,
        "target": targets.get(name),
        "conditions": conditions,
    }


def _peak_mb(side: str, frames: int) -> float:
    command = [sys.executable, "-m", "tools.bench_stage1", side, str(frames)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


@torch.inference_mode()
def _print_peak(side: str, frames: int) -> None:
    """In a process of its own: resident memory that one forward adds to the loaded weights."""
    torch.set_num_threads(1)
    reference, ours = make_pair(ENTRIES, 1)
    given = inputs(frames)
    small = inputs(1)  # loads what the libraries load lazily
    if side == "ours":
        del reference
        ours(*small)
    else:
        del ours
        _reference_forward(reference, small)
    print(added_peak_mb(lambda: ours(*given) if side == "ours" else _reference_forward(reference, given)))


def added_peak_mb(call: Callable) -> float:
    """Resident memory that a call adds at its peak.

    What was freed before goes back to the system first: the call would fill it again, and nobody would see it.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status_mb("VmRSS")
    call()
    return status_mb("VmHWM") - before


def status_mb(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"The system does not report {key}.")


if __name__ == "__main__":
    _print_peak(sys.argv[1], int(sys.argv[2]))
