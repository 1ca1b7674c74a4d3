# SPDX-License-Identifier: GPL-3.0-or-later
"""The streaming release's training checkpoint (`model.pt`), converted once to a safetensors file `load` reads.

Beside the generator's weights the checkpoint may hold a critic, optimiser states and the denoising steps of the
training. It is mapped and read without unpickling any class, so it cannot run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

from ..models.stage1 import Stage1Transformer
from ..models.stage1.loading import architecture, matched, state_dict_entries, stored_dtype

# Raised when what a converted file holds changes, so that older files are made anew.
_FORMAT_VERSION = "1"
_STEP_LIST = "denoising_step_list"


# The released student as the later streaming code computes it: no renormalisation in either camera branch, the key
# convolution carried in both, softmax scaled by the head's own width. Not yet held against the released weights.
STREAMING_SWITCHES = {"cam_renorm_softmax": False, "padded_scale_camera": False}


def convert_training_checkpoint(source: Path, target: Path) -> bool:
    """Write the generator of a training checkpoint to `target`, unless that file was made from the same source.

    The file holds the model's tensors under the names of `Stage1Transformer`: bf16, but fp32 for decay rates, norms
    and scale_shift tables. Its metadata record the source (name, size, mtime, SHA-256) and the training's steps.
    It appears as a whole or not at all. Memory: at most one copy of the converted weights; the source is mapped.

    Returns:
        True if `target` was written, False if it was up to date.

    Raises:
        FileNotFoundError: there is no source.
        ValueError: the source is damaged, holds classes, is no stage 1 or carries a strange step list.
    """
    if not source.is_file():
        raise FileNotFoundError(f"There is no training checkpoint at {source}.")
    if _is_made_from(target, source):
        return False
    checkpoint = _read(source)
    steps = _step_list(checkpoint.pop(_STEP_LIST, None), source.name)
    entries = state_dict_entries(checkpoint)
    with torch.device("meta"):
        model = Stage1Transformer(architecture(entries, STREAMING_SWITCHES))
    entries = matched(entries, model)
    status = source.stat()
    metadata = {
        "format_version": _FORMAT_VERSION,
        "source": source.name,
        "source_size": str(status.st_size),
        "source_mtime_ns": str(status.st_mtime_ns),
        "source_sha256": _sha256(source),
        _STEP_LIST: json.dumps(steps),
    }
    tensors = {name: read().to(stored_dtype(name)).contiguous() for name, (_, read) in entries.items()}
    _save(tensors, target, metadata)
    return True


def recorded_steps(target: Path) -> tuple[float, ...] | None:
    """The denoising steps a converted file carries, as timesteps falling from at most 1000 to a final 0.

    None if its source carried none, or the file was not made by `convert_training_checkpoint`.
    """
    with safe_open(target, framework="pt") as archive:
        steps = json.loads((archive.metadata() or {}).get(_STEP_LIST, "null"))
    return None if steps is None else tuple(steps)


def steps_to_take(
    recorded: Sequence[float] | None, wanted: Sequence[float]
) -> tuple[tuple[float, ...], str | None]:
    """The steps of a run, which are the training's where these are known, and a sentence if that changes them.

    Args:
        recorded: the steps of the training; None if unknown.
        wanted: the preset's. A final 0 counts as there in both.
    """
    used = _ended(wanted)
    if recorded is None:
        return used, None
    trained = _ended(recorded)
    # Steps that went through fp32 differ in the last digits.
    if len(trained) == len(used) and all(abs(a - b) < 1e-3 for a, b in zip(trained, used, strict=True)):
        return used, None
    return trained, (
        f"The weights were trained with the denoising steps {spelled(trained)}, and these are used; the preset "
        f"has {spelled(used)}."
    )


def _save(tensors: dict[str, Tensor], target: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file that appears as a whole or not at all."""
    # A folder, because the library has temporary files of its own, which a killed process leaves behind.
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        save_file(tensors, partial / target.name, metadata)
        with open(partial / target.name, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial / target.name, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_made_from(target: Path, source: Path) -> bool:
    """Whether `target` was converted from `source` as it is now."""
    try:
        with safe_open(target, framework="pt") as archive:
            metadata = archive.metadata() or {}
    except (FileNotFoundError, SafetensorError):
        return False
    status = source.stat()
    if metadata.get("format_version") != _FORMAT_VERSION:
        return False
    if metadata.get("source_size") != str(status.st_size):
        return False
    if metadata.get("source_mtime_ns") == str(status.st_mtime_ns):
        return True
    # A copied file has a new time: only its content tells.
    return metadata.get("source_sha256") == _sha256(source)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(source: Path) -> dict[str, Any]:
    """The checkpoint's dictionary, its tensors mapped."""
    try:
        classes = sorted(get_unsafe_globals_in_checkpoint(source))
        checkpoint = None if classes else torch.load(source, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # a damaged pickle fails in any way
        raise ValueError(
            f"{source.name} cannot be read as a PyTorch checkpoint; it may be incomplete: download it again."
        ) from error
    if classes:
        # Settings that training code saves along are no danger by themselves, but there is no list of exceptions.
        settings = any(name.startswith("omegaconf.") for name in classes)
        raise ValueError(
            f"{source.name} is not loaded, because it could run code: beside tensors and plain values it holds "
            f"{', '.join(classes)}{' (likely harmless settings, but no class is let in)' if settings else ''}; "
            "get a copy that holds the weights only."
        )
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{source.name} holds a {type(checkpoint).__name__} instead of named weights.")
    return dict(checkpoint)


def _step_list(value: Any, file_name: str) -> tuple[float, ...] | None:
    """Steps as training code saves them, a tensor or a list, with or without the final 0."""
    if value is None:
        return None
    try:
        steps = _ended(torch.as_tensor(value, dtype=torch.float64).flatten().tolist())
    except (TypeError, ValueError, RuntimeError):
        steps = (0.0,)
    falling = all(earlier > later for earlier, later in pairwise(steps))
    if not falling or len(steps) < 2 or steps[0] > 1000 or steps[-2] < 1:
        raise ValueError(
            f"{file_name} carries the denoising steps {reprlib.repr(value)}; "
            "they should be timesteps that fall from at most 1000 to 0."
        )
    return steps


def _ended(steps: Sequence[float]) -> tuple[float, ...]:
    steps = tuple(float(step) for step in steps)
    return steps if steps and steps[-1] == 0 else (*steps, 0.0)


def spelled(steps: Sequence[float]) -> str:
    return ", ".join(f"{step:g}" for step in steps)
