# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor on a miniature release: whole, and damaged in every way that a download is; and what a machine can run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kernels
from backend.__main__ import main
from backend.doctor import machine as machines
from backend.doctor import parts, report
from backend.doctor.words import WIDTH, summary, text
from backend.protocol import list_presets
from backend.protocol.memory_plan import Budget, plan
from backend.protocol.weights_folder import record_installed
from backend.protocol.weights_registry import COMPONENTS, needed_for
from backend.weights.verify import sha256_of
from kernels import nvfp4
from tests.miniature_release import accept_licences, write_release

WEIGHTS = "diffusion_pytorch_model.safetensors"
PRESETS = list_presets(Path(__file__).parents[2] / "presets" / "quality")
RELEASED = tuple(stem for stem, preset in PRESETS.items() if preset.model == "sana_wm")


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """The miniature release with accepted licences and the student's checkpoint converted."""
    root = accept_licences(write_release(tmp_path_factory.mktemp("weights")))
    assert main(["weights", "convert", "--weights", str(root)]) == 0
    return root


@pytest.fixture
def copy(release, tmp_path):
    """A copy of it to damage."""
    return Path(shutil.copytree(release, tmp_path / "weights"))


@pytest.fixture(scope="session")
def machine():
    return machines.examine("cpu")


def tree(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def doctor(capsys, *words):
    """Exit code, JSON, and the report for people, its lines joined."""
    code = main(["doctor", *words, "--json"])
    record = json.loads(capsys.readouterr().out)
    assert main(["doctor", *words]) == code
    return code, record, " ".join(capsys.readouterr().out.split())


def test_a_whole_release_is_told_part_by_part(release, capsys):
    before = tree(release)
    code, record, said = doctor(capsys, "--weights", str(release), "--device", "cpu")
    assert code == 0 and record["damages"] == [] and "Nothing is damaged." in said
    assert {part["id"]: part["state"] for part in record["weights"]["parts"]} == dict.fromkeys(
        COMPONENTS, "whole"
    )
    assert all(part["is_accepted"] and part["size_gb"] > 0 for part in record["weights"]["parts"])
    assert len(record["runnable"]) == len(record["presets"]) and not any(
        p["obstacle"] for p in record["presets"]
    )
    assert "SANA-WM_bidirectional/refiner/transformer, NVlabs' layout" in said
    assert "stage1_streaming/model.safetensors, own folder" in said
    assert tree(release) == before, "nothing is written"


def truncated_shard(root):
    shard = root / "SANA-WM_bidirectional" / "refiner" / "text_encoder" / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])


def lost_shard(root):
    (
        root / "SANA-WM_bidirectional" / "refiner" / "text_encoder" / "model-00002-of-00003.safetensors"
    ).unlink()
    shutil.rmtree(root / "SANA-WM_streaming" / "gemma3_12b")


def other_models_config(root):
    (root / "SANA-WM_bidirectional" / "vae" / "config.json").write_text(
        '{"_class_name": "FluxTransformer2D"}'
    )


def unreadable_config(root):
    (root / "SANA-WM_bidirectional" / "vae" / "config.json").write_bytes(b"\xff\xfe")


def swapped_autoencoder(root):
    shutil.rmtree(root / "SANA-WM_bidirectional" / "vae")
    shutil.copytree(root / "SANA-WM_streaming" / "ltx2_causal_vae", root / "SANA-WM_bidirectional" / "vae")


def swapped_connectors(root):
    refiner = root / "SANA-WM_bidirectional" / "refiner"
    shutil.copyfile(refiner / "transformer" / WEIGHTS, refiner / "connectors" / WEIGHTS)


def only_a_pickle(root):
    folder = root / "SANA-WM_bidirectional" / "refiner" / "transformer"
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def not_converted(root):
    shutil.rmtree(root / "stage1_streaming")


def truncated_pickle(root):
    shutil.rmtree(root / "stage1_streaming")
    pickle = root / "SANA-WM_streaming" / "sana_dit" / "model.pt"
    pickle.write_bytes(pickle.read_bytes()[:-100])


def missing(root):
    shutil.rmtree(root / "SANA-WM_bidirectional" / "vae")


def stopped_download(root):
    shutil.rmtree(root / "SANA-WM_bidirectional" / "vae")
    (root / "vae").mkdir()
    (root / "vae" / f"{WEIGHTS}.0123456789ab.partial").write_bytes(b"a part")


@pytest.mark.parametrize(
    "damage, component, state, problem, remedy",
    [
        (truncated_shard, "gemma_3_12b", "damaged", "model-00002-of-00003.safetensors in", "download it again"),
        (lost_shard, "gemma_3_12b", "damaged", "model-00002-of-00003.safetensors is missing", "download it again"),
        (other_models_config, "vae", "damaged", "names FluxTransformer2D instead of", "download vae, or choose"),
        (unreadable_config, "vae", "damaged", "has no readable config.json", "remove it and download again"),
        (swapped_autoencoder, "vae", "damaged", "the causal decoder of the other release", "download vae, or"),
        (swapped_connectors, "connectors", "damaged", "is not Text connectors: it has no", "download connectors, or"),
        (only_a_pickle, "refiner", "damaged", "has only pytorch_model.bin", "download refiner, or choose"),
        (truncated_pickle, "stage1_streaming", "damaged", "model.pt in", "is truncated; download it again"),
        (not_converted, "stage1_streaming", "not converted", "not converted", "run `weights convert"),
        (missing, "vae", "missing", "Video VAE is not in", "download it, or choose a folder"),
        (stopped_download, "vae", "incomplete", "is still to come", "download again to go on"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_what_is_wrong_with_a_part_is_one_sentence_and_costs_the_presets_that_need_it(
    copy, machine, damage, component, state, problem, remedy
):
    damage(copy)
    found = report.of(machine, parts.examine(copy))
    part = next(part for part in found.weights.parts if part.id == component)
    assert {p.id: p.state for p in found.weights.parts if p.state != "whole"} == {component: state}
    assert problem in part.words and remedy in part.words
    assert part.words.endswith(".") and "\n" not in part.words
    said = " ".join(text(found).split())
    assert f"{part.title} {state}" in said and (part.words in said or state == "missing")
    assert len(found.damages) == (state == "damaged")
    stopped = [p for p in found.presets if not p.can_run]
    needing = {p.id for p in found.presets if component in needed_for(PRESETS[p.id])}
    assert {p.id for p in stopped} == needing and needing
    words = "model.pt" if state == "not converted" else part.title
    assert all(words in p.obstacle and p.obstacle in said for p in stopped)


@pytest.mark.parametrize("damage, code", [(missing, 0), (not_converted, 0), (truncated_shard, 1)])
def test_the_exit_code_tells_what_is_damaged_from_what_is_not_there(copy, capsys, damage, code):
    damage(copy)
    assert main(["doctor", "--device", "cpu", "--weights", str(copy)]) == code


def test_without_a_text_encoder_it_takes_prompts_that_are_cached(copy, machine):
    shutil.rmtree(copy / "gemma-2-2b-it")
    found = report.of(machine, parts.examine(copy))
    final = next(preset for preset in found.presets if preset.id == "sana_wm_final")
    assert final.can_run and "Without Gemma-2-2B, stage 1's text encoder it takes only prompts" in final.note
    assert final.missing_gb == 5.25


def test_terms_that_were_not_accepted_stop_a_preset(copy, machine):
    (copy / "licences.json").unlink()
    found = report.of(machine, parts.examine(copy))
    assert not any(part.is_accepted for part in found.weights.parts) and found.damages == []
    final = next(preset for preset in found.presets if preset.id == "sana_wm_final")
    assert "LTX-2 Community License" in final.obstacle and "weights accept" in final.obstacle
    assert "ltx2 not accepted" in text(found)


@pytest.mark.parametrize("name", ["licences.json", "installed.json"])
@pytest.mark.parametrize(
    "content", [b"[]", b"\xff", b'{"schema": 1, "accepted": {"ltx2": 1}, "components": {"vae": 1}}']
)
def test_a_damaged_record_is_told_once(copy, machine, name, content):
    (copy / name).write_bytes(content)
    found = report.of(machine, parts.examine(copy))
    assert sum(name in damage and "again" in damage for damage in found.weights.damages) == 1
    assert not any(preset.can_run for preset in found.presets if preset.id == "sana_wm_draft")
    assert text(found)


def test_reading_every_byte_finds_what_headers_do_not_show(copy, capsys):
    shutil.move(copy / "SANA-WM_bidirectional" / "refiner" / "transformer", copy / "refiner")
    shutil.copytree(
        copy / "SANA-WM_streaming" / "refiner_diffusers" / "transformer", copy / "refiner_streaming"
    )
    for id in ("refiner", "refiner_streaming"):
        files = {f.name: {"size": f.stat().st_size, "sha256": sha256_of(f)} for f in (copy / id).iterdir()}
        record_installed(copy, id, {"repository": "here", "revision": "0" * 40, "files": files})
    shutil.copyfile(copy / "refiner_streaming" / WEIGHTS, copy / "refiner" / WEIGHTS)
    words = ["doctor", "--device", "cpu", "--weights", str(copy)]
    assert main(words) == 0
    capsys.readouterr()
    assert main([*words, "--hash"]) == 1
    out, err = capsys.readouterr()
    assert "Reading Refiner" in err and "every byte was read" in out
    assert f"{WEIGHTS} of Refiner is the {WEIGHTS} of Refiner, streaming" in " ".join(out.split())


def test_a_folder_that_is_empty_or_not_there_is_said_and_not_made(tmp_path, machine, capsys):
    for root in (tmp_path, tmp_path / "nowhere"):
        found = report.of(machine, parts.examine(root))
        assert {part.state for part in found.weights.parts} == {"missing"} and found.damages == []
        final = next(preset for preset in found.presets if preset.id == "sana_wm_final")
        assert final.missing_gb == pytest.approx(107.7, abs=0.1)
    assert "There is no folder" in text(found) and not root.exists()
    code, record, said = doctor(capsys, "--device", "cpu")
    assert code == 0 and record["weights"] is None and "No folder was named" in said


def test_people_and_programs_are_told_the_same(copy, machine):
    truncated_shard(copy)
    found = report.of(machine, parts.examine(copy))
    record = json.loads(json.dumps(found.to_record()))
    said = " ".join(text(found).split())
    told = [value for value in record["machine"].values() if isinstance(value, str)]
    told += [part["title"] for part in record["weights"]["parts"]]
    told += [operator["reason"] for operator in record["operators"]]
    told.append(record["fp4_test"])
    told += [
        f"{fit['frames']} frames fits in {fit['plan']['peak_gb']:4.1f} GB"
        for p in record["presets"]
        for fit in p["fits"]
    ]
    assert [words for words in told if " ".join(words.split()) not in said and words != "cpu"] == []
    assert summary(found) in said and "1 thing is damaged." in said
    assert [line for line in text(found).splitlines() if len(line) > WIDTH and " " in line.strip()] == []


@pytest.mark.parametrize("card_gb", [16, 24, 32, 48, 80])
def test_a_minute_fits_an_assumed_card_as_the_memory_plan_says(card_gb, machine):
    card = machines.Gpu("assumed", None, card_gb, card_gb, is_assumed=True)
    found = report.of(replace(machine, device="cuda", gpu=card, free_gb=64.0), None)
    said = " ".join(text(found).split())
    assert f"ASSUMED: a card with {card_gb} GB free" in said
    presets = list_presets(report.PRESETS)
    for told in found.presets:
        if told.id in RELEASED:
            minute, layout = told.fits[-1], plan(presets[told.id], 961, Budget(card_gb, 64.0))
            assert minute.duration_s == 60 and minute.plan == layout and layout.peak_gb <= card_gb
            assert f"60 s, 961 frames fits in {layout.peak_gb:.1f} GB" in said


def test_a_card_can_be_assumed_on_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(machines, "available_gb", lambda: 64.0)
    code, record, said = doctor(capsys, "--memory", "24")
    assert code == 0 and "ASSUMED: a card with 24 GB free" in said
    assert record["machine"]["gpu"]["is_assumed"] and record["machine"]["device"] == "cuda"
    assert all(p["fits"][-1]["plan"] for p in record["presets"] if p["id"] in RELEASED)


def test_what_does_not_fit_is_told_with_what_would(machine):
    small = report.of(
        replace(machine, device="cuda", gpu=machines.Gpu("Small", (8, 6), 11.5, 11.0), free_gb=64.0), None
    )
    draft = next(preset for preset in small.presets if preset.id == "sana_wm_draft")
    assert draft.fits[-1].plan is None and "it fits with a refiner window of 5 frames" in draft.fits[-1].words
    assert "60 s, 961 frames does not fit: SANA-WM Draft" in " ".join(text(small).split())


@pytest.mark.parametrize(
    "words",
    [
        ["--memory", "much"],
        ["--memory", "-1"],
        ["--device", "tpu"],
        ["--device", "cpu", "--memory", "24"],
        ["now"],
    ],
)
def test_wrong_arguments_are_refused(words):
    with pytest.raises(SystemExit) as refused:
        main(["doctor", *words])
    assert refused.value.code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_runs_nothing(capsys):
    code, record, said = doctor(capsys, "--device", "cuda")
    assert code == 1 and record["runnable"] == [] and "There is no CUDA device." in said


def test_a_backend_without_a_package_says_what_it_costs(machine):
    without = report.of(replace(machine, missing=("diffusers",)), None)
    assert (
        without.presets[-1].obstacle == "The backend was set up without diffusers; set up the backend again."
    )
    assert without.runnable, "the embedded model does not need it"


@pytest.mark.parametrize(
    "capability, built_for, runs",
    [
        ((8, 9), ["sm_80", "sm_90"], True),
        ((7, 5), ["sm_80", "compute_90"], False),
        ((12, 0), ["sm_90a"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
    ],
)
def test_cards_that_torch_was_not_built_for_are_known(capability, built_for, runs):
    assert machines.has_kernels(capability, built_for) is runs


def test_every_operator_says_which_path_it_takes():
    rooms = {path.parent.name for path in (Path(kernels.__file__).parent).glob("*/naive.py")}
    told = kernels.paths("cpu")
    assert set(told) == rooms and all(path and reason for path, reason in told.values())


def test_the_fp4_self_test_says_what_passed_and_what_did_not(machine, monkeypatch):
    assert report.of(machine, None).fp4_test.startswith("Passed by torch on the CPU: ")
    card = machines.Gpu("assumed", None, 24, 24, is_assumed=True)
    assert (
        report.of(replace(machine, device="cuda", gpu=card), None).fp4_test == "Not run: the card is assumed."
    )
    exact = nvfp4.vectorized.quantize
    monkeypatch.setattr(nvfp4.vectorized, "quantize", lambda x: exact(1.2 * x))
    wrong = report.of(machine, None)
    assert "FAILED by torch on the CPU: wrong scales when quantising. Choose a preset" in " ".join(
        text(wrong).split()
    )
