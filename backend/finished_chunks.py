# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job has to show after a crash: the latents of its finished chunks.

They are small, and everything else follows from them: the carry of the chunks before is written again by the same
clean passes, and what was rendered already is in the growing clip.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from .protocol import JobFolder, atomic

_KEY = "key.json"


class FinishedChunks:
    """The `resume/` folder of a job.

    Args:
        job: the job, whose lock the caller holds.
        maker: what the pixels depend on beside the job's own files: hashes of weights, versions.
        device: torch device of the latents; the pixels depend on it too.

    Attributes:
        continues: whether an earlier run of the same request by the same maker is gone on with. Otherwise what was
            there has been removed, the growing clip too.
    """

    def __init__(self, job: JobFolder, maker: dict[str, str], device: str) -> None:
        self._folder, self._device = job.resume, device
        key = {**maker, "device": device, **_hashes(job)}
        self.continues = _read_key(self._folder) == key
        if not self.continues:
            shutil.rmtree(self._folder, ignore_errors=True)
            shutil.rmtree(job.preview, ignore_errors=True)
            self._folder.mkdir()
            atomic.write_json(self._folder / _KEY, key)

    def load(self, chunk: slice, stage: str = "latents") -> Tensor | None:
        """The latents (B,C,t,H,W) of a chunk after a stage, or None if they are not there whole."""
        try:
            return load_file(self._path(chunk, stage), device=self._device)["latents"]
        except (OSError, SafetensorError, KeyError):
            return None

    def save(self, chunk: slice, latents: Tensor, stage: str = "latents") -> None:
        """Keep the latents of a chunk after a stage."""
        if not self._path(chunk, stage).exists():
            atomic.write_bytes(self._path(chunk, stage), save({"latents": latents.contiguous().cpu()}))

    def _path(self, chunk: slice, stage: str) -> Path:
        return self._folder / f"{stage}_{chunk.start:05d}_{chunk.stop:05d}.safetensors"


def _read_key(folder: Path) -> dict[str, str] | None:
    try:
        return json.loads((folder / _KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _hashes(job: JobFolder) -> dict[str, str]:
    """SHA-256 of the files that say what to make."""
    files = (job.shot_json, job.camera_npz, job.first_frame_png, job.blockout_npz)
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.exists()}
