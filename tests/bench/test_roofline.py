# SPDX-License-Identifier: GPL-3.0-or-later
"""Work and limits on paper: the page is the code's, and the code counts what others count."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from backend.bench import counts
from backend.bench.cards import H100, RTX_5090
from backend.bench.random_models import MINIATURE
from backend.bench.roofline import BEGIN, END, PUBLISHED, STAGES, markdown, stage_bound_s
from backend.bench.stages import StreamedRefiner, StreamedStage1
from backend.protocol.memory_plan import RELEASED
from tools.occupancy import bytes_at_once, predict

PAGE = (Path(__file__).parents[2] / "docs" / "roofline.md").read_text("utf-8")
CPU = torch.device("cpu")


def test_the_page_has_the_tables_that_the_code_makes():
    assert PAGE.count(BEGIN) == PAGE.count(END) == 1
    on_page = PAGE[PAGE.index(BEGIN) : PAGE.index(END) + len(END)]
    assert on_page == markdown(), (
        "write the output of `python -m backend bench --roofline` into docs/roofline.md"
    )


@pytest.mark.parametrize("stage", PUBLISHED)
def test_totals_are_the_published_ones(stage):
    assert counts.total_flop(STAGES[stage]()) == pytest.approx(PUBLISHED[stage], rel=0.02)


def test_weights_are_those_of_the_released_models():
    """What is quantised, and all of the decoder but its biases."""
    for kernels, linears, clip in (
        (counts.stage1_pass(STAGE1 := counts.Stage1Config(), 3, 3, 880), RELEASED.stage1_linears, "stage 1"),
        (counts.refiner_pass(counts.RefinerConfig(), 3, 3, 880), RELEASED.refiner_linears, "refiner"),
    ):
        counted = sum(k.weights * k.calls for k in kernels if k.is_quantized)
        # The prompt's keys and values are made once for a clip.
        once = 2 * STAGE1.hidden_size**2 * 20 if clip == "stage 1" else 2 * 4096**2 * 48
        assert counted + once == linears, clip
    decoder = sum(k.weights * k.calls for k in counts.decoder(counts.DecoderSizes()))
    assert decoder == pytest.approx(RELEASED.decoder, rel=1e-4)


def test_counted_work_is_what_the_models_do():
    """Linears and convolutions of one pass over a chunk, as torch counts them."""
    stage1 = StreamedStage1(MINIATURE, "fp32", CPU)
    stage1.warm()
    conditioning = stage1.conditioning(3)
    refiner = StreamedRefiner(MINIATURE, "fp32", CPU)
    refiner.warm(MINIATURE.window)
    cells, config = 15, MINIATURE.stage1
    folded = 2 * 3 * cells * config.hidden_size * (config.hidden_size - config.plucker_channels) * 4
    cases = (
        (lambda: stage1.pass_over(3, False, conditioning), counts.stage1_pass(config, 3, 10, cells), folded),
        (lambda: refiner.step(3), counts.refiner_pass(MINIATURE.refiner, 3, 14, cells), 0),
    )
    others = ("attention", "norm", "DeltaNet", "ray", "SiLU", "residual")
    for run, kernels, less in cases:
        with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _addmm_flop}) as counter:
            with torch.no_grad():
                run()
        names = ("aten.mm", "aten.addmm", "aten.addmm_", "aten.convolution")
        found = sum(n for op, n in counter.get_flop_counts()["Global"].items() if str(op) in names)
        is_linear = [
            k for k in kernels if "queries and output" in k.name or not any(o in k.name for o in others)
        ]
        expected = sum(k.flop * k.calls for k in is_linear) - less
        assert found == pytest.approx(expected, rel=1e-3), "the time embedding is not counted"


def _addmm_flop(total: tuple, a: tuple, b: tuple, **_) -> int:
    return 2 * a[0] * a[1] * b[1]


def test_a_bound_is_the_larger_of_arithmetic_and_memory():
    assert RTX_5090.bound_s(209.5e12, 1.0, "bf16") == pytest.approx(1)
    assert RTX_5090.bound_s(1.0, 1792e9, "bf16") == pytest.approx(1)
    assert RTX_5090.rate("nvfp4") == 8 * RTX_5090.rate("bf16")
    assert H100.rate("nvfp4") == H100.rate("bf16"), "it has no FP4 tensor cores"
    assert stage_bound_s("Stage 1, streaming", RTX_5090, "nvfp4") < 9
    less = replace(RTX_5090, gb_s=100.0)
    assert stage_bound_s("Decoder", less, "bf16") > stage_bound_s("Decoder", RTX_5090, "bf16")


PTX = """
$L__BB0_1:
	cp.async.cg.shared.global [ %r18 + 0 ], [ %rd25 + 0 ], 0x10, %r19;
	cp.async.ca.shared.global [ %r22 + 0 ], [ %rd27 + 0 ], 0x4, %r28;
	@%p5 bra 	$L__BB0_2;
	ld.global.b16 { %rs6 }, [ %rd170 + 0 ];
$L__BB0_2:
	@%p4 ld.global.v4.b32 { %r9, %r10, %r11, %r12 }, [ %rd13 + 0 ];
	st.global.v4.b32 [ %rd13 + 0 ], { %r9, %r10, %r11, %r12 };
"""


def test_bytes_of_the_longest_stretch_count():
    assert bytes_at_once(PTX) == 20
    assert bytes_at_once(PTX.replace("	@%p5 bra 	$L__BB0_2;\n", "")) == 22
    assert bytes_at_once("") == 0


@pytest.mark.parametrize(
    ("capability", "registers", "warps", "shared", "blocks", "limited_by"),
    [
        (90, 32, 4, 0, 16, "registers"),  # 64 warps: registers and warps allow the same
        (120, 32, 4, 0, 12, "warps"),
        (90, 255, 8, 0, 1, "registers"),
        (120, 168, 4, 0, 3, "registers"),
        (90, 64, 4, 100 * 1024, 2, "shared memory"),
        (120, 64, 4, 50 * 1024, 1, "shared memory"),
        (90, 16, 1, 0, 32, "blocks"),
        (120, 64, 8, 200 * 1024, 0, "shared memory"),
    ],
)
def test_blocks_of_a_multiprocessor(capability, registers, warps, shared, blocks, limited_by):
    found = predict(capability, registers, warps, shared, PTX)
    assert (found.blocks, found.limited_by) == (blocks, limited_by)
    assert found.in_flight == blocks * warps * 32 * 20
    assert found.occupancy == pytest.approx(blocks * warps / {90: 64, 120: 48}[capability])
