# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench runs to its end on a CPU, says which operator is wrong, and goes on where something fails."""

import json
from dataclasses import replace

import pytest
import torch

import kernels
from backend.__main__ import main
from backend.bench import cli, operators, stages, whole_clip
from backend.bench.cards import RTX_5090
from backend.bench.cases import CASES, Compared, OperatorCases
from backend.bench.random_models import MINIATURE
from backend.bench.rows import Row, guarded, has_failed, table
from kernels import nvfp4

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """Of one quick run."""
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    assert main(["bench", "--quick", "--json", str(path)]) == 0
    return json.loads(path.read_text())


def rows(record, section):
    return {row["name"]: row for row in record["rows"] if row["section"] == section}


def test_every_operator_is_held_against_its_truth_and_timed(record):
    assert record["passed"] and not any(row["reason"] for row in record["rows"])
    for section in ("parity", "operators"):
        measured = {name.partition(",")[0] for name in rows(record, section)}
        assert measured - {"torch"} == set(kernels.OPERATORS), "give it cases in backend/bench/cases"
    for row in rows(record, "parity").values():
        assert 0 <= row["values"]["error"] <= row["values"]["gate"]
    for row in rows(record, "operators").values():
        assert row["values"]["ms"] > 0 and row["values"]["TFLOP/s"] > 0 and row["values"]["memory GB"] > 0


def test_every_stage_is_measured_and_scaled_to_the_clip(record):
    found = rows(record, "stages")
    for precision in ("fp32", "nvfp4"):
        clips = []
        for stage in ("Stage 1, streaming", "Refiner, streaming", "Decoder"):
            values = found[f"{stage}, {precision}, miniature"]["values"]
            assert 0 < values["measured s"] < values["clip s"] and " x " in values["how"]
            clips.append(values["clip s"])
        assert found[f"All stages, {precision}, miniature"]["values"]["clip s"] == pytest.approx(sum(clips))
    assert "published s" not in values, "nobody else measured the miniature"


def test_a_whole_clip_takes_every_pass_of_every_stage():
    calls = []

    class Counting:
        def forget_peak(self):
            pass

        def memory_gb(self):
            return 0.0

        def once(self, call):
            with torch.no_grad():
                call()
            calls.append(call)
            return 1.0

    short = replace(MINIATURE, frames=7)
    made = list(whole_clip.whole_rows(short, ("fp32",), CPU, Counting(), RTX_5090))
    seconds = [row.values["clip s"] for row in made]
    # Two chunks: 4 steps and a clean pass, 3 steps and a clean pass, the last chunk without; 7 latents.
    assert seconds == [9, 7, 7, 16, 23] and len(calls) == 23
    assert not any(row.reason for row in made)


def wrong(device):
    yield Compared("right", torch.ones(3), torch.ones(3), 0)
    yield Compared("left", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.2]), 1e-2)
    yield Compared("unwritten", torch.tensor([1.0, torch.nan]), torch.ones(2), 1e-2)
    raise RuntimeError("out of\nluck")


def test_a_wrong_operator_is_named_and_the_run_goes_on(monkeypatch, capsys):
    monkeypatch.setitem(CASES, "nvfp4", OperatorCases({"spoiled": wrong}, {}))
    monkeypatch.setattr(stages, "stage_rows", lambda *given, **named: iter(()))
    monkeypatch.setattr(operators, "speed_rows", lambda *given, **named: iter(()))
    assert main(["bench", "--quick"]) == 1
    said = capsys.readouterr().out
    assert "An operator is WRONG." in said and "fp8, linear" in said, "what comes behind it is measured"
    own = [row for row in operators.parity_rows(CPU) if row.name == "nvfp4, spoiled"]
    assert [row.values["passed"] for row in own] == [True, False, False, False]
    assert own[1].values["tensor"] == "left" and own[1].values["error"] == pytest.approx(0.083, abs=1e-3)
    assert "not finite" in own[2].reason and own[3].reason == "RuntimeError: out of luck"


def test_a_kernel_that_rounds_otherwise_is_found(monkeypatch):
    exact = nvfp4.vectorized.quantize
    monkeypatch.setattr(nvfp4.vectorized, "quantize", lambda x, valid=None: exact(1.02 * x, valid))
    found = [row for row in operators.parity_rows(CPU) if row.name.startswith("nvfp4")]
    assert has_failed(found)


def test_an_operator_without_cases_has_failed(monkeypatch):
    monkeypatch.setitem(kernels.OPERATORS, "new", object())
    found = [row for row in operators.parity_rows(CPU) if row.name == "new"]
    assert has_failed(found) and "no cases" in found[0].reason


def test_a_failed_measurement_is_a_row():
    def fails():
        yield Row("stages", "first", {"clip s": 2.0})
        raise torch.OutOfMemoryError("too much")

    first, second = guarded("stages", "both", fails)
    assert first.values and second.reason == "OutOfMemoryError: too much" and not has_failed([second])
    assert "not measured: OutOfMemoryError" in table("stages", [first, second])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cuda"], "There is no CUDA device"),
        (["--json", "not there/bench.json"], "There is no folder"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_what_cannot_run_is_refused_before_any_work(words, said, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_rows", lambda *given: pytest.fail("work began"))
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_roofline_is_printed(capsys):
    assert main(["bench", "--roofline"]) == 0
    assert "| Stage 1, streaming |" in capsys.readouterr().out
