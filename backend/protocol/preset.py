# SPDX-License-Identifier: GPL-3.0-or-later
"""How a shot is made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from . import atomic
from .errors import ProtocolError
from .records import from_record

VARIANTS = ("bidirectional", "chunk_causal", "streaming")
# Of linears in the blocks of stage 1 and the refiner alone; everything else is in bf16 then.
QUANTIZED = ("fp8", "nvfp4")
PRECISIONS = ("fp32", "bf16", *QUANTIZED)


@dataclass(frozen=True)
class Preset:
    """One entry of presets/quality.

    Attributes:
        name: shown to the user, and recorded with the clip.
        description: one sentence for the tooltip.
        model: name of the model in the weights registry, such as "embedded".
        variant: how stage 1 attends over time; one of VARIANTS.
        image_size: (width, height) of the clip in pixels, multiples of 32.
        steps: denoising steps of stage 1; of every chunk if chunk_causal.
        step_list: noise levels of the streaming student on the 0..1000 scale, falling to 0, taken as they are;
            the other variants make theirs from `steps` and `shift`.
        guidance: classifier-free guidance scale; 1 means without.
        shift: flow shift of the sigma schedule.
        precision: number format of the linears; one of PRECISIONS.
        refiner: whether the refiner runs after stage 1.
        refiner_window: latent frames of history the refiner sees.
        stage1_lora, refiner_lora: files in the folder `loras` beside the weights, adapters that stage 1 and the refiner
            run with; "" without.
        stage1_lora_strength, refiner_lora_strength: factors of what these adapters change; 1 as they were trained.
        network_blend: how much of the network's residual the embedded model adds to its guided projection of
            the first frame, 0..1; other models ignore it.
        blockout_guidance: how far sampling is drawn to the projected preview where the first frame shows it, after
            each step, 0..1; 0 is off.
        blockout_guidance_end: noise level 0..1 below which it lets go; at 0 it holds to the last step.
        marks_unseen: hatch what the first frame never saw; for a preview, of the embedded model only.
    """

    name: str
    description: str
    model: str
    image_size: tuple[int, int]
    variant: str = "bidirectional"
    steps: int = 60
    step_list: tuple[float, ...] = ()
    guidance: float = 5.0
    shift: float = 9.8
    precision: str = "fp32"
    refiner: bool = False
    refiner_window: int = 11
    refiner_lora: str = ""
    refiner_lora_strength: float = 1.0
    stage1_lora: str = ""
    stage1_lora_strength: float = 1.0
    network_blend: float = 0.0
    blockout_guidance: float = 0.0
    blockout_guidance_end: float = 0.0
    marks_unseen: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(int(side) for side in self.image_size))
        if not self.name.strip() or not self.model.strip():
            raise ProtocolError("A preset needs a name and a model.")
        if self.variant not in VARIANTS:
            raise ProtocolError(
                f"Preset {self.name}: variant {self.variant!r} is not one of {', '.join(VARIANTS)}."
            )
        if self.precision not in PRECISIONS:
            raise ProtocolError(
                f"Preset {self.name}: precision {self.precision!r} is not one of {', '.join(PRECISIONS)}."
            )
        if len(self.image_size) != 2 or any(side < 32 or side % 32 for side in self.image_size):
            raise ProtocolError(
                f"Preset {self.name}: the image size must be two multiples of 32, not {self.image_size}."
            )
        if not 1 <= self.steps <= 1000:
            raise ProtocolError(f"Preset {self.name}: steps must be between 1 and 1000, not {self.steps}.")
        self._check_step_list()
        if not self.guidance >= 1:
            raise ProtocolError(f"Preset {self.name}: guidance must be 1 or more, not {self.guidance}.")
        if not self.shift > 0:
            raise ProtocolError(f"Preset {self.name}: shift must be positive, not {self.shift}.")
        loras = {"the refiner": self.refiner_lora, "stage 1": self.stage1_lora}
        for whose, lora in loras.items():
            if lora != PurePath(lora).name or "\\" in lora:
                raise ProtocolError(
                    f"Preset {self.name}: the LoRA of {whose} is the name of a file in the folder loras, not {lora!r}."
                )
        if self.refiner_lora and not self.refiner:
            raise ProtocolError(
                f"Preset {self.name}: without the refiner its LoRA {self.refiner_lora} has no use."
            )
        if not (math.isfinite(self.refiner_lora_strength) and math.isfinite(self.stage1_lora_strength)):
            raise ProtocolError(f"Preset {self.name}: the LoRA's strength must be a number.")
        shares = {
            "network blend": self.network_blend,
            "blockout guidance": self.blockout_guidance,
            "the end of blockout guidance": self.blockout_guidance_end,
        }
        for what, share in shares.items():
            if not 0 <= share <= 1:
                raise ProtocolError(f"Preset {self.name}: {what} must lie in 0..1, not {share}.")

    def _check_step_list(self) -> None:
        if self.variant != "streaming":
            if self.step_list:
                raise ProtocolError(f"Preset {self.name}: only the streaming variant takes a step list.")
            object.__setattr__(self, "step_list", ())
            return
        numbers = isinstance(self.step_list, (list, tuple)) and all(
            isinstance(step, (int, float)) and not isinstance(step, bool) for step in self.step_list
        )
        steps = tuple(self.step_list) if numbers else ()
        falling = all(before > after for before, after in zip(steps, steps[1:], strict=False))
        if len(steps) < 2 or steps[-1] != 0 or steps[0] > 1000 or not falling:
            raise ProtocolError(
                f"Preset {self.name}: the step list must fall from at most 1000 to 0, like 1000, 960, 889, 727, 0; "
                f"it is {self.step_list}."
            )
        object.__setattr__(self, "step_list", steps)
        if self.guidance != 1:
            raise ProtocolError(
                f"Preset {self.name}: the streaming variant runs without guidance; set guidance to 1, "
                f"not {self.guidance}."
            )

    @property
    def pose_offset(self) -> int:
        """Delivered frame i shows camera sample i + this: the refiner drops frame 0."""
        return 1 if self.refiner else 0

    def to_record(self) -> dict[str, Any]:
        """A JSON object that `from_record` turns into an equal preset."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Any) -> Preset:
        """Build from a JSON object; unknown and missing names are errors."""
        return from_record(cls, record, "The preset")

    @classmethod
    def load(cls, path: Path) -> Preset:
        """Read one preset file."""
        return cls.from_record(atomic.read_json(path))


def list_presets(folder: Path) -> dict[str, Preset]:
    """All presets of a folder by file stem, in the order of their file names."""
    return {path.stem: Preset.load(path) for path in sorted(folder.glob("*.json"))}
