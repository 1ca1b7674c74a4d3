# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry is consistent, presets know what they need, and acceptance holds for the terms that were shown."""

import json
import re
from pathlib import Path

import pytest

from backend.protocol import Preset, ProtocolError, list_presets
from backend.protocol.weights_folder import find, installed
from backend.protocol.weights_licences import LICENCES, accept, is_accepted, unaccepted
from backend.protocol.weights_registry import COMPONENTS, needed_for

PRESETS = list_presets(Path(__file__).parents[2] / "presets" / "quality")


@pytest.mark.parametrize("component", COMPONENTS.values(), ids=list(COMPONENTS))
def test_components_are_complete(component):
    assert component.licence in LICENCES
    assert re.fullmatch(r"Efficient-Large-Model/[\w.-]+", component.repository)
    assert component.revision is None or re.fullmatch(r"[0-9a-f]{40}", component.revision)
    names = [file.name for file in component.files]
    assert len(set(names)) == len(names)
    assert all(file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256) for file in component.files)
    pickles = [
        file.path for file in component.files if not file.path.endswith((".safetensors", ".json", ".model"))
    ]
    assert pickles == (["sana_dit/model.pt"] if component.id == "stage1_streaming" else [])


def test_presets_know_what_they_run_on():
    assert needed_for(PRESETS["embedded"]) == ()
    shared = {"gemma_2_2b", "gemma_3_12b"}
    assert set(needed_for(PRESETS["sana_wm_final"])) == shared | {
        "stage1_bidirectional", "vae", "refiner", "connectors",
    }  # fmt: skip
    assert set(needed_for(PRESETS["sana_wm_teacher"])) == shared | {
        "stage1_chunk_causal", "vae", "refiner", "connectors",
    }  # fmt: skip
    assert set(needed_for(PRESETS["sana_wm_draft"])) == shared | {
        "stage1_streaming", "vae_causal", "refiner_streaming", "connectors_streaming",
    }  # fmt: skip
    bare = Preset("Bare", "", "sana_wm", (1280, 704))
    assert set(needed_for(bare)) == {"gemma_2_2b", "stage1_bidirectional", "vae"}
    assert set(COMPONENTS) == {id for preset in PRESETS.values() for id in needed_for(preset)}


def test_acceptance_is_recorded_with_the_terms_it_was_given_for(tmp_path):
    root = tmp_path / "weights"
    ids = needed_for(PRESETS["sana_wm_final"])
    assert [licence.id for licence in unaccepted(root, ids)] == ["gemma", "sana_wm", "ltx2"]
    accept(root, ["ltx2", "gemma"])
    assert [licence.id for licence in unaccepted(root, ids)] == ["sana_wm"]
    path = root / "licences.json"
    record = json.loads(path.read_text("utf-8"))
    assert set(record["accepted"]["ltx2"]) == {"terms_sha256", "accepted", "sana_wm"}
    record["accepted"]["ltx2"]["terms_sha256"] = "0" * 64
    path.write_text(json.dumps(record), "utf-8")
    assert not is_accepted(root, "ltx2") and is_accepted(root, "gemma")


def test_unknown_licences_and_damaged_records_are_sentences(tmp_path):
    with pytest.raises(ProtocolError, match="There is no license mit; there are sana_wm, ltx2, gemma."):
        accept(tmp_path, ["mit"])
    (tmp_path / "licences.json").write_text("[]", "utf-8")
    with pytest.raises(ProtocolError, match="licences.json is damaged"):
        is_accepted(tmp_path, "ltx2")
    (tmp_path / "installed.json").write_text('{"schema": 2}', "utf-8")
    with pytest.raises(ProtocolError, match="installed.json is damaged"):
        installed(tmp_path, "vae")


def test_an_empty_folder_has_nothing(tmp_path):
    assert {find(tmp_path / "nowhere", id) for id in COMPONENTS} == {None}
