# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the released model: found, checked, loaded when their turn comes, and kept as the memory plan says."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from ..models.refiner import RefinerTransformer, load_refiner
from ..models.refiner.loading import matched, matching_adapter, not_applied
from ..models.stage1 import Stage1Transformer
from ..models.stage1 import load as load_stage1
from ..models.stage1.loading import require_adapter
from ..models.vae import CausalDecoder
from ..models.vae.tiled_decoder import TiledDecoder
from ..overlap import Overlap
from ..protocol import Preset, ProtocolError, Shot
from ..protocol.main_memory import available_gb
from ..protocol.memory_plan import RELEASED, Budget, MemoryPlan, plan
from ..protocol.preset import QUANTIZED
from ..protocol.weights_folder import find, hashes, weight_files
from ..protocol.weights_ready import TEXT_ENCODERS, loras_of, places_of, why_not_ready
from ..protocol.weights_registry import COMPONENTS
from ..quantization.linear import in_words
from ..weights.streaming_release import STREAMING_SWITCHES, recorded_steps
from ..weights.verify import check, sha256_of
from .released_prompts import Prompts
from .schedule import with_trained_steps
from .shooting import Shooting

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, **dict.fromkeys(QUANTIZED, torch.bfloat16)}


class ReleasedModels:
    """See Models.

    Args:
        preset: of the model "sana_wm"; says which parts are needed.
        device: torch device.
        weights: the folder that the parts are found in, in any layout they are published in.

    Raises:
        ProtocolError: a part is missing or is something else, or a licence was not accepted. Nothing is loaded yet.
    """

    # The bidirectional and the chunk-causal weights were trained with the defaults.
    switches: dict[str, bool] = {}

    def __init__(self, preset: Preset, device: str, weights: Path | None) -> None:
        refused = why_not_ready(weights, preset)
        if refused:
            raise ProtocolError(refused)
        self._places = places_of(weights, preset)
        self.device, self.dtype = device, _DTYPES[preset.precision]
        self._format = preset.precision if preset.precision in QUANTIZED else None
        # Of what was quantised before, the weights that it was made from, where they are kept.
        self._plain = {id: find(weights, id) for id, place in self._places.items()}
        self._meaning = _meaning(self._format, device)
        self._stage1 = f"stage1_{preset.variant}"
        self._is_streaming = preset.variant == "streaming"
        self._refiner = "refiner_streaming" if self._is_streaming else "refiner"
        self._loras = loras_of(weights, preset)
        self._strengths = {"stage1": preset.stage1_lora_strength, "refiner": preset.refiner_lora_strength}
        for id in (self._part_id(part) for part in self._loras):
            if self._plain[id] is not None:
                # It cannot join weights that are quantised; it is merged into the plain ones while they are loaded.
                self._places[id] = self._plain[id]
        for id, place in self._places.items():
            check(place, COMPONENTS[id])
        self.sha256 = {
            id: _identity(weights, id, place) for id, place in self._places.items() if id not in TEXT_ENCODERS
        }
        self._sizes, self._not_applied = RELEASED, ""
        for part, lora in self._loras.items():
            with _in_a_sentence():
                place = self._places[self._part_id(part)]
                if part == "stage1":
                    require_adapter(lora, place)
                else:
                    self._not_applied = not_applied(matching_adapter(lora, matched(place)[1]))
            self.sha256[f"{part}_lora"] = sha256_of(lora)
            grown = getattr(self._sizes, part) + lora.stat().st_size // 2
            self._sizes = replace(self._sizes, **{part: grown})
        self.prompts = Prompts(weights, self._places, device, self.dtype)
        self._plan: MemoryPlan | None = None
        self._kept: dict[str, nn.Module] = {}

    def as_trained(self, preset: Preset) -> tuple[Preset, list[str]]:
        recorded = recorded_steps(self._places[self._stage1]) if self._is_streaming else None
        preset, notes = with_trained_steps(preset, recorded)
        return preset, [*notes, *filter(None, [self._not_applied])]

    def check(self, shot: Shot) -> None:
        self.prompts.require(shot)
        if shot.preset.blockout_guidance > 0 and shot.blockout is None:
            raise ProtocolError("Blockout guidance needs the blockout's geometry; export the shot with it.")
        layout = plan(shot.preset, len(shot.camera), self._budget(), self._sizes)
        if layout != self._plan:
            self._kept.clear()
            self._give_back()
        self._plan = layout

    def notes(self) -> list[str]:
        """How the precision is computed here, in sentences."""
        if self._format is None:
            return []
        parts = [id for id in self._places if id.startswith(("stage1", "refiner"))]
        plain = [COMPONENTS[id].title for id in parts if self._places[id] == self._plain[id]]
        if not plain:
            return [self._meaning]
        on_cpu = torch.device(self.device).type == "cpu"
        visits = on_cpu and (self._plan.stage1_streamed or self._plan.refiner_streamed)
        it, is_ = ("it is", "is") if len(plain) == 1 else ("they are", "are")
        when = "whenever a block is read" if visits else f"while {it} loaded"
        return [
            self._meaning,
            f"{' and '.join(plain)} {is_} quantised {when}; weights quantize does that once and for all.",
        ]

    def _part_id(self, part: str) -> str:
        return self._stage1 if part == "stage1" else self._refiner

    def _reference(self, id: str) -> Path | None:
        """The plain weights beside quantised ones; None if they are not there, or are what is loaded."""
        return None if self._plain[id] == self._places[id] else self._plain[id]

    def costs(self, shot: Shot, frames: int) -> dict[str, float]:
        prompts, first_frame, *work = (stage.tflop for stage in self._plan.stages)
        costs = {"prompts": prompts, "condition": first_frame}
        if self._is_streaming and self._plan.together:
            return {**costs, "render": sum(work)}
        *stages, decode = work
        return {**costs, **dict(zip(("denoise", "refine"), stages, strict=False)), "render": decode}

    def film(self, shooting: Shooting, overlap: Overlap) -> Iterator[np.ndarray]:
        from .released_film import ReleasedFilm

        return ReleasedFilm(self, self._plan, shooting).portions(overlap)

    @contextmanager
    def encoder(self) -> Iterator[nn.Module]:
        """The video autoencoder's encoder, for as long as the context lasts."""
        with self._part("encoder", lambda: self._vae("encoder"), stays=False) as vae:
            yield vae

    @contextmanager
    def stage1(self) -> Iterator[Stage1Transformer]:
        def load() -> nn.Module:
            switches = STREAMING_SWITCHES if self._is_streaming else self.switches
            place = self._places[self._stage1]
            return load_stage1(
                place,
                switches,
                self.dtype,
                self.device,
                self._plan.stage1_streamed,
                self._format,
                self._reference(self._stage1),
                self._loras.get("stage1"),
                self._strengths["stage1"],
            )

        with self._part("stage1", load, stays=self._plan.together) as module:
            yield module

    @contextmanager
    def refiner(self) -> Iterator[RefinerTransformer]:
        def load() -> nn.Module:
            return load_refiner(
                self._places[self._refiner],
                self.dtype,
                self.device,
                self._plan.refiner_streamed,
                self._loras.get("refiner"),
                self._strengths["refiner"],
                self._format,
                self._reference(self._refiner),
            )

        with self._part("refiner", load, stays=self._plan.together) as module:
            yield module

    @contextmanager
    def decoder(self) -> Iterator[CausalDecoder | TiledDecoder]:
        with self._part("decoder", lambda: self._vae("decoder"), stays=self._plan.together) as vae:
            yield CausalDecoder(vae) if self._is_streaming else TiledDecoder(vae, self._plan.spatial_tiles)

    def _vae(self, part: Literal["encoder", "decoder"]) -> nn.Module:
        from ..models.vae.ltx2 import load_vae

        place = self._places["vae_causal" if self._is_streaming else "vae"]
        return load_vae(place, part, self._is_streaming, self.dtype, self.device)

    @contextmanager
    def _part(self, name: str, load: Callable[[], nn.Module], stays: bool) -> Iterator[nn.Module]:
        with _in_a_sentence():
            module = self._kept.get(name) or load()
        if stays:
            self._kept[name] = module
        try:
            yield module
        finally:
            del module
            if not stays:
                self._give_back()

    def _budget(self) -> Budget:
        device = torch.device(self.device)
        if device.type != "cuda":
            free = available_gb() + _bytes(self._kept.values()) / 1e9
            return Budget(free, free, "cpu", is_cpu=True)
        free, _ = torch.cuda.mem_get_info(device)
        ours = torch.cuda.memory_reserved(device)
        return Budget((free + ours) / 1e9, available_gb(), torch.cuda.get_device_name(device))

    def _give_back(self) -> None:
        gc.collect()
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    """What a loader refuses is said to the user as it is."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ProtocolError(str(error)) from error


def _identity(weights: Path, id: str, place: Path) -> str:
    """A hash for the provenance: of the download, or else of headers and sizes, as hashing everything takes minutes."""
    folder = place if place.is_dir() else place.parent
    own = hashes(weights, folder.name) if folder.parent == weights else {}
    files = weight_files(place, COMPONENTS[id])
    if all(file.name in own for file in files):
        return ", ".join(own[file.name] for file in files)
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            digest.update(opened.read(length) + str(file.stat().st_size).encode())
    return f"headers {digest.hexdigest()}"


def _meaning(format: str | None, device: str) -> str:
    try:
        return in_words(format, device) if format else ""
    except RuntimeError as error:
        raise ProtocolError(str(error)) from error


def _bytes(modules: Iterator[nn.Module]) -> int:
    return sum(p.numel() * p.element_size() for m in modules for p in m.parameters() if not p.is_meta)
