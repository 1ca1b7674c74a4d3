# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels compiled for GPUs that are not there, and what their machine code says about them.

Every module with Triton kernels has `builds()`: each kernel in each tile configuration that is shipped, with the
instruction that its products must become on each target. No driver is needed.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# Compute capability -> shared memory that one block may have, in bytes.
SHARED_LIMITS = {80: 166_912, 90: 232_448, 100: 232_448, 120: 101_376}
_CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


@dataclass(frozen=True)
class Build:
    """One kernel in one shipped configuration.

    Attributes:
        name: operator, kernel and configuration, as the table shows them.
        signature: argument -> Triton type such as "*bf16", "*fp32", "i32"; constexpr arguments are left out.
        constants: constexpr argument -> value.
        instructions: compute capability -> regular expression that the PTX must contain, "" if the kernel has no
            tensor-core products there; capabilities that are left out are not shipped.
        aligned: integer arguments that are multiples of 16, as the launcher would find out; pointers always are.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    instructions: Mapping[int, str]
    warps: int = 4
    stages: int = 2
    aligned: tuple[str, ...] = ()


@dataclass(frozen=True)
class MachineCode:
    """Registers and stack bytes (spills) of a thread, shared bytes of a block, the instruction as found in the PTX."""

    registers: int
    stack_bytes: int
    shared_bytes: int
    instruction: str
    ptx: str


def compile_for(build: Build, capability: int) -> MachineCode:
    """Compile a build for a compute capability such as 120; takes seconds.

    Raises:
        ValueError: the instruction that must be there is not.
    """
    types = {name: build.signature.get(name, "constexpr") for name in build.kernel.arg_names}
    aligned = [
        index
        for index, (name, kind) in enumerate(types.items())
        if kind.startswith("*") or name in build.aligned
    ]
    source = ASTSource(
        fn=build.kernel,
        signature=types,
        constexprs=dict(build.constants),
        attrs={(index,): [["tt.divisibility", 16]] for index in aligned},
    )
    options = {"num_warps": build.warps, "num_stages": build.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx = compiled.asm["ptx"]
    pattern = build.instructions[capability]
    found = re.search(pattern, ptx) if pattern else None
    if pattern and found is None:
        raise ValueError(f"{build.name} for sm_{capability} has no instruction {pattern}.")
    registers, stack_bytes = _resources(compiled.asm["cubin"])
    return MachineCode(registers, stack_bytes, compiled.metadata.shared, found.group() if found else "", ptx)


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and stack bytes of a thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [str(_CUOBJDUMP), "-res-usage", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", text).groups()
    return int(registers), int(stack)
