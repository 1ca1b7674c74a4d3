# SPDX-License-Identifier: GPL-3.0-or-later
"""Which linears of a model are quantised: those of its blocks that the authors of SANA-WM quantise, by name.

Everything else keeps its numbers: camera projections, rotary tables and ray transforms, norms, scans, depthwise and
temporal convolutions, embedders and the last layer. In stage 1 the authors saw a quantised camera branch stop following
the camera; in the refiner the projections in and out, of time and of the prompt lose quality (NVlabs/Sana, docs and
inference scripts of SANA-WM).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

MULTIPLE = 16


@dataclass(frozen=True)
class Recipe:
    """
    Attributes:
        what: the model's name in sentences.
        listed: regular expression of the names of the linears, within the model.
    """

    what: str
    listed: str

    def names(self, model: nn.Module) -> list[str]:
        """The listed linears of a model, in its order; 1x1 convolutions count.

        Raises:
            ValueError: one has a side that is no multiple of 16, or there is none.
        """
        found = [name for name, _ in model.named_modules() if re.fullmatch(self.listed, name)]
        if not found:
            raise ValueError(f"The {self.what} has no linears to quantise.")
        for name in found:
            outputs, inputs = model.get_submodule(name).weight.shape[:2]
            if outputs % MULTIPLE or inputs % MULTIPLE:
                raise ValueError(
                    f"{name} of the {self.what} leads from {inputs} to {outputs} channels; only multiples of "
                    f"{MULTIPLE} can be quantised. Choose a preset in bf16 or fp32."
                )
        return found


# beta_proj and gate_proj lead to as many channels as there are heads, 20: no multiple of 16, and gates of the scan.
STAGE1 = Recipe(
    "stage-1 model",
    r"blocks\.\d+\.(attn\.(qkv|proj|output_gate)|cross_attn\.(q_linear|kv_linear|proj)"
    r"|mlp\.(inverted_conv|point_conv)\.conv)",
)
REFINER = Recipe(
    "refiner", r"transformer_blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))"
)
