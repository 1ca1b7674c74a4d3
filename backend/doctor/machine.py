# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine, as far as it decides what can run: processor, memory, graphics card, and the libraries that are there.

Nothing is loaded onto a device, nothing is written and no network is asked.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from ..installer import read_requirements
from ..protocol.main_memory import available_gb, total_gb
from ..protocol.memory_plan import Budget

_ROOT = Path(__file__).parents[2]
# Only the released model and the training need these.
_OF_RELEASED_MODEL = {"diffusers", "transformers", "accelerate", "huggingface_hub"}
_OF_TRAINING = {"peft"}
_REPAIR = "set up the backend again"


@dataclass(frozen=True)
class Ability:
    """Whether the machine has something (None: not known), and in words which, or why not."""

    is_there: bool | None
    words: str


@dataclass(frozen=True)
class Gpu:
    """A graphics card that computes.

    Attributes:
        capability: CUDA's compute capability; None of an assumed card.
        total_gb, free_gb: of its memory, in 1e9 bytes.
        driver, cuda: versions of the driver and of torch's CUDA; empty where they are not known.
        is_assumed: nobody has it; it was asked what it could run.
    """

    name: str
    capability: tuple[int, int] | None
    total_gb: float
    free_gb: float
    driver: str = ""
    cuda: str = ""
    is_assumed: bool = False


@dataclass(frozen=True)
class Machine:
    """
    Attributes:
        cores: that this process may use.
        memory_gb, free_gb: of main memory, in 1e9 bytes.
        threads: that torch computes with; None without torch.
        torch, triton: versions; None where they are not installed.
        device: "cpu" or "cuda": what the rest of the report is about.
        gpu: the card, whether or not it is the device; None if there is none that torch can use.
        why_no_gpu: a sentence; empty if there is one.
        bf16, fp8, fp4, ffmpeg, embree: what it can.
        cpu_tflop_s: how fast the CPU multiplies matrices with these threads, measured, by number format; empty without
            torch.
        missing: packages of the backend that are not installed, training's left out.
        obstacle: a sentence if no clip can be made at all, whatever the preset.
    """

    system: str
    cpu: str
    cores: int
    memory_gb: float
    free_gb: float
    python: str
    torch: str | None
    threads: int | None
    triton: str | None
    device: str
    gpu: Gpu | None
    why_no_gpu: str
    bf16: Ability
    cpu_tflop_s: dict[str, float]
    fp8: Ability
    fp4: Ability
    ffmpeg: Ability
    embree: Ability
    missing: tuple[str, ...]
    obstacle: str

    @property
    def budget(self) -> Budget | None:
        """What the device has to spare now; None if there is no such device."""
        if self.device == "cpu":
            return Budget(self.free_gb, self.free_gb, "cpu", is_cpu=True)
        return self.gpu and Budget(self.gpu.free_gb, self.free_gb, self.gpu.name)

    @property
    def obstacle_of_released(self) -> str:
        """A sentence if the released model cannot run for want of a package."""
        lacking = sorted(_OF_RELEASED_MODEL & set(self.missing))
        return f"The backend was set up without {', '.join(lacking)}; {_REPAIR}." if lacking else ""


def examine(device: str | None, assumed_gb: float | None = None) -> Machine:
    """Look at this machine.

    Args:
        device: "cpu" or "cuda"; None takes the graphics card where there is one.
        assumed_gb: the free memory of a card that stands in for the device.
    """
    try:
        import torch
    except (ImportError, OSError) as error:
        torch, why_no_torch = None, f"torch cannot be loaded ({error}); {_REPAIR}."
    else:
        why_no_torch = ""
    if assumed_gb is not None:
        gpu, why_no_gpu = Gpu("a card that is assumed", None, assumed_gb, assumed_gb, is_assumed=True), ""
    else:
        gpu, why_no_gpu = _gpu(torch) if torch else (None, why_no_torch)
    capabilities = torch.cpu.get_capabilities() if torch else {}
    ffmpeg, embree, missing = _told(_ffmpeg), _told(_embree), _missing_packages()
    needed = sorted(set(missing) - _OF_RELEASED_MODEL)
    lacking = f"The backend was set up without {', '.join(needed)}; {_REPAIR}." if needed else ""
    problems = [ability.words for ability in (ffmpeg, embree) if not ability.is_there]
    return Machine(
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        cpu=capabilities.get("cpu_name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=total_gb(),
        free_gb=available_gb(),
        python=platform.python_version(),
        torch=torch.__version__ if torch else None,
        threads=torch.get_num_threads() if torch else None,
        triton=_version("triton") or _version("triton-windows"),
        device=device or ("cuda" if gpu else "cpu"),
        gpu=gpu,
        why_no_gpu=why_no_gpu,
        bf16=_bf16(capabilities),
        cpu_tflop_s=_measured(torch) if torch else {},
        fp8=_tensor_cores(gpu, (8, 9), "FP8", "sm_89"),
        fp4=_tensor_cores(gpu, (10, 0), "FP4", "sm_100, or sm_120 among consumer cards"),
        ffmpeg=ffmpeg,
        embree=embree,
        missing=missing,
        obstacle=next(filter(None, [why_no_torch, lacking, *problems]), ""),
    )


def _gpu(torch: ModuleType) -> tuple[Gpu | None, str]:
    """The first card that torch may use, or a sentence on why there is none."""
    listed = _listed_by_driver()
    if not torch.cuda.is_available():
        if not listed:
            why = "No NVIDIA driver answers here"
        elif torch.version.cuda is None:
            why = f"There is an {listed[0][0]}, but this torch computes on the CPU alone; set up the backend for CUDA"
        else:
            why = (
                f"There is an {listed[0][0]} with driver {listed[0][1]}, but torch {torch.__version__} cannot use it; "
                "update the driver"
            )
        return None, f"{why}."
    try:
        name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        free, total = torch.cuda.mem_get_info()
    except RuntimeError as error:
        return (
            None,
            f"The graphics card does not answer ({' '.join(str(error).split())}); restart the computer.",
        )
    if not has_kernels(capability, torch.cuda.get_arch_list()):
        number = "{}{}".format(*capability)
        return (
            None,
            f"This torch has no kernels for {name} (sm_{number}); set up the backend again, or use the CPU.",
        )
    driver = listed[0][1] if listed else ""
    return Gpu(name, capability, total / 1e9, free / 1e9, driver, torch.version.cuda or ""), ""


def has_kernels(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Whether a build of torch for these architectures runs on a card.

    Machine code ("sm_86") runs on cards of the same major version, from its minor one on; intermediate code
    ("compute_90") on every card from its version on.
    """
    for name in built_for:
        kind, _, number = name.partition("_")
        digits = re.match(r"\d+", number)
        built = divmod(int(digits[0]), 10) if digits else (99, 0)
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return False


def _listed_by_driver() -> list[tuple[str, str]]:
    """Name and driver version of every card that the NVIDIA driver knows."""
    program = shutil.which("nvidia-smi")
    if not program:
        return []
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.rpartition(",") for line in listing.stdout.splitlines()] if listing.returncode == 0 else []
    return [(name.strip(), driver.strip()) for name, comma, driver in rows if comma]


def _tensor_cores(gpu: Gpu | None, first: tuple[int, int], kind: str, begin: str) -> Ability:
    if gpu is None:
        return Ability(False, "there is no graphics card")
    if gpu.capability is None:
        return Ability(None, f"the card is assumed; {kind} tensor cores begin with {begin}")
    number = "sm_{}{}".format(*gpu.capability)
    if gpu.capability < first:
        return Ability(False, f"{number} has no {kind} tensor cores; they begin with {begin}")
    return Ability(True, f"{number} has {kind} tensor cores")


def _bf16(capabilities: dict) -> Ability:
    if not capabilities:
        return Ability(None, "only torch tells")
    for name, words in (
        ("amx_bf16", "AMX multiplies bf16 matrices"),
        ("avx512_bf16", "AVX-512 has bf16 dot products"),
        ("bf16", "the processor has bf16 dot products"),
    ):
        if capabilities.get(name):
            return Ability(True, words)
    return Ability(False, "the processor has neither AMX nor AVX512-BF16, so bf16 is emulated")


def _measured(torch: ModuleType) -> dict[str, float]:
    """TFLOP/s of matrix products of a size that takes a slow CPU a third of a second."""
    rates, size, least_s = {}, 512, 0.1
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        matrix = torch.ones(size, size, dtype=dtype)
        matrix @ matrix  # the first one prepares the library
        products, start, elapsed_s = 0, time.perf_counter(), 0.0
        while elapsed_s < least_s:
            matrix @ matrix
            products, elapsed_s = products + 1, time.perf_counter() - start
        rates[name] = 2 * size**3 * products / elapsed_s / 1e12
    return rates


def _told(look: Callable[[], str]) -> Ability:
    """An ability whose proof raises a sentence where there is none."""
    try:
        return Ability(True, look())
    except (ImportError, OSError, RuntimeError) as error:
        name = look.__name__.strip("_")
        return Ability(False, f"{name} cannot be used ({' '.join(str(error).split())}); {_REPAIR}.")


def _ffmpeg() -> str:
    import imageio_ffmpeg

    return f"{imageio_ffmpeg.get_ffmpeg_version()}, {imageio_ffmpeg.get_ffmpeg_exe()}"


def _embree() -> str:
    from embreex import mesh_construction, rtcore_scene  # noqa: F401 - proves that the library loads

    return f"embreex {version('embreex')}"


def _missing_packages() -> tuple[str, ...]:
    names = [re.match(r"[\w-]+", line)[0] for line in read_requirements(_ROOT, ["backend"])]
    return tuple(name for name in names if name not in _OF_TRAINING and _version(name) is None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
