# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that `weights quantize` made: listed, held against the hashes of that moment, removed."""

import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

from backend.__main__ import main
from backend.protocol.weights_folder import find, find_quantized, installed, record_installed
from tests.miniature_release import original_names, stage1_weights

STAGE1, WEIGHTS = "stage1_bidirectional", "sana_wm_1600m_720p.safetensors"
NAME = f"{STAGE1}_nvfp4"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A miniature of stage 1 in the released layout, and its quantised folder."""
    root = tmp_path_factory.mktemp("weights")
    folder = root / "SANA-WM_bidirectional" / "dit"
    folder.mkdir(parents=True)
    save_file(original_names(stage1_weights(1)), folder / WEIGHTS)
    (folder / "config.json").write_text('{"_class_name": "SanaWMTransformer3DModel"}')
    assert main(["weights", "quantize", "--weights", str(root), STAGE1, "--format", "nvfp4"]) == 0
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(made, tmp_path / "weights"))


def weights(capsys, root, command, *words):
    """Exit code, and what was said."""
    capsys.readouterr()
    code = main(["weights", command, "--weights", str(root), *words])
    return code, " ".join("".join(capsys.readouterr()).split())


def test_every_written_file_is_recorded_and_listed(root, capsys):
    written = {path.name for path in (root / NAME).iterdir()}
    assert {WEIGHTS, "config.json", "hf_quant_config.json"} == written == set(installed(root, NAME)["files"])
    code, said = weights(capsys, root, "list")
    assert code == 0 and f"sana_wm present {root / NAME}" in said
    (root / "refiner_fp8.partial").mkdir()
    assert f"ltx2 incomplete {root / 'refiner_fp8'}" in weights(capsys, root, "list")[1]


def test_a_whole_one_is_verified_by_name_with_all_others_and_for_a_preset(root, capsys):
    code, said = weights(capsys, root, "verify", NAME)
    assert code == 0 and "stage 1, bidirectional in nvfp4 is whole." in said.lower()
    code, said = weights(capsys, root, "verify")
    assert code == 0 and "2 components are whole" in said
    shutil.rmtree(root / "SANA-WM_bidirectional")
    code, said = weights(capsys, root, "verify")
    assert code == 0 and "1 component is whole" in said, "the plain weights may go"


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: flip(folder / WEIGHTS), f"{WEIGHTS} of .* is not the file that was written"),
        (lambda folder: flip(folder / "config.json"), "config.json of .* is not the file that was written"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"cut"), "has 3 bytes instead of"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} of .* is missing"),
        (shutil.rmtree, "is not in .*; make it with weights quantize stage1_bidirectional --format nvfp4"),
    ],
)
def test_damage_is_one_sentence_with_a_remedy(root, capsys, damage, said):
    damage(root / NAME)
    code, told = weights(capsys, root, "verify", NAME)
    assert code == 1
    assert re.search(said, told)
    assert "remove stage1_bidirectional_nvfp4 and quantise again" in told or "weights quantize" in told
    assert weights(capsys, root, "verify")[0] == 1, "verifying all finds it too"


def test_one_from_before_hashes_were_recorded_is_read_at_least(root, capsys):
    record_installed(root, NAME, None)
    assert "no hash was recorded" in weights(capsys, root, "verify", NAME)[1]
    path = root / NAME / WEIGHTS
    path.write_bytes(path.read_bytes()[:-10])
    code, said = weights(capsys, root, "verify", NAME)
    assert code == 1 and "is truncated" in said


def test_removing_takes_what_was_written_and_nothing_else(root, capsys):
    (root / NAME / "notes.txt").write_text("mine")
    (root / f"{NAME}.partial").mkdir()
    (root / f"{NAME}.partial" / WEIGHTS).write_bytes(b"begun")
    assert (root / "NOTICES" / f"MODIFIED_{NAME}.txt").is_file()
    code, said = weights(capsys, root, "remove", NAME)
    assert code == 0 and "in nvfp4" in said
    assert [path.name for path in (root / NAME).iterdir()] == ["notes.txt"]
    assert not (root / f"{NAME}.partial").exists() and not list((root / "NOTICES").iterdir())
    assert installed(root, NAME) == {} and find_quantized(root, STAGE1, "nvfp4") is None
    assert find(root, STAGE1), "the plain weights stay"
    (root / NAME / "notes.txt").unlink()
    weights(capsys, root, "remove", NAME)
    assert not (root / NAME).exists()
    assert main(["weights", "quantize", "--weights", str(root), STAGE1, "--format", "nvfp4"]) == 0


def test_a_preset_that_is_quantised_means_the_quantised_folder(root, capsys, monkeypatch):
    from backend.weights import cli

    record = {
        "name": "N",
        "description": "",
        "model": "sana_wm",
        "precision": "nvfp4",
        "image_size": [160, 96],
    }
    (root / "tested.json").write_text(json.dumps({**record, "steps": 1, "guidance": 1.0}))
    monkeypatch.setattr(cli, "_PRESETS", root)
    said = weights(capsys, root, "verify", "--preset", "tested")[1]
    assert "bidirectional in nvfp4 is whole." in said and "Video VAE is not in" in said
    assert weights(capsys, root, "remove", "--preset", "tested")[0] == 0
    assert not (root / NAME).exists()


def test_only_quantised_and_published_parts_have_names(root, capsys):
    for command, name in (
        ("verify", "vae_nvfp4"),
        ("remove", "stage1_bidirectional_int4"),
        ("download", NAME),
    ):
        with pytest.raises(SystemExit):
            weights(capsys, root, command, name)
        assert f"there is no component {name}" in capsys.readouterr().err
