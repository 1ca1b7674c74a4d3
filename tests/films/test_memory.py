# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call of the released refiner holds beside its weights, counted at its real size without any memory."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from backend.models.refiner import RefinerConfig, RefinerRun, RefinerTransformer
from backend.protocol import list_presets
from backend.protocol.memory_plan import Budget, plan
from tests.live_bytes import LiveBytes

PRESETS = list_presets(Path(__file__).parents[2] / "presets" / "quality")
LAYERS = 48


@pytest.mark.parametrize("stem", ["sana_wm_draft", "sana_wm_final"])
def test_the_refiner_of_a_minute_takes_what_is_planned(stem, monkeypatch):
    # Flash attention holds no scores; its result has the tokens before the heads.
    attend = "scaled_dot_product_attention"
    monkeypatch.setattr(F, attend, lambda q, k, v: torch.empty_like(q.transpose(1, 2)).transpose(1, 2))
    preset, grid, latents = PRESETS[stem], (22, 40), 121
    with torch.inference_mode(), torch.device("meta"):
        model = RefinerTransformer(replace(RefinerConfig(), num_layers=1)).to(torch.bfloat16)
        with LiveBytes("meta") as live:
            run = RefinerRun(model, torch.zeros(1, 1024, 3840), grid, preset.refiner_window)
            run.begin(torch.zeros(1, 128, 1, *grid))
            length = 3 if preset.variant == "streaming" else latents - 1
            for start in range(1, min(latents, 5 * length + 1), length):
                run.place(slice(start, start + length))
                live.peak = live.now
                run.velocity(torch.zeros(1, 128, length, *grid), 0.9)
                peak = live.peak
                if preset.variant == "streaming":
                    run.remember(torch.zeros(1, 128, length, *grid))
    row = next(row for row in plan(preset, 961, Budget(79, 128)).stages if row.name == "Refiner")
    planned_gb, counted_gb = row.peak_gb - row.weights_gb, (peak + (LAYERS - 1) * _of_a_layer(run)) / 1e9
    assert 0.7 * planned_gb <= counted_gb <= planned_gb, f"{counted_gb:.2f} GB, planned {planned_gb:.2f} GB"


def _of_a_layer(run: RefinerRun) -> int:
    """Bytes that one layer remembers."""
    memory = run._memory[0]
    parts = [memory._sink, memory._history, memory.text]
    return sum(tensor.nbytes for part in parts if part for tensor in part)
