# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder that the user points at: found in every layout, and one sentence for whatever is wrong with it."""

import hashlib
import json
import pickle

import pytest

from backend.protocol import ProtocolError
from backend.protocol.weights_folder import find, record_installed, state
from backend.protocol.weights_registry import COMPONENTS
from backend.weights.verify import check, verify
from tests.weights.hub import refiner_files, safetensors, vae_files

WEIGHTS = "diffusion_pytorch_model.safetensors"
STAGE1 = safetensors({"blocks.0.attn.qkv.weight": [8]})
CONNECTORS = safetensors({"text_proj_in.weight": [8]})
GEMMA = safetensors({"language_model.model.embed_tokens.weight": [8]})


def config(**entries):
    return json.dumps(entries).encode()


def gemma_files(folder, architecture, shards):
    names = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    index = {"weight_map": {f"tensor {number}": name for number, name in enumerate(names)}}
    return {
        f"{folder}/config.json": config(architectures=[architecture]),
        f"{folder}/model.safetensors.index.json": config(**index),
        **{f"{folder}/{name}": GEMMA for name in names},
    }


def connectors_files(folder):
    return {
        f"{folder}/config.json": config(_class_name="LTX2TextConnectors"),
        f"{folder}/{WEIGHTS}": CONNECTORS,
    }


RELEASED = {
    "SANA-WM_bidirectional": {
        "dit/sana_wm_1600m_720p.safetensors": STAGE1,
        **vae_files("vae", causal=False),
        **refiner_files("refiner/transformer"),
        **connectors_files("refiner/connectors"),
        **gemma_files("refiner/text_encoder", "Gemma3ForConditionalGeneration", 11),
    },
    "SANA-WM_chunk_causal": {"dit/sana_wm_chunk_causal_1600m_720p.safetensors": STAGE1},
    "SANA-WM_streaming": {
        "sana_dit/model.pt": b"\x80",
        **vae_files("ltx2_causal_vae", causal=True),
        **refiner_files("refiner_diffusers/transformer"),
        **connectors_files("refiner_diffusers/connectors"),
        **gemma_files("gemma3_12b", "Gemma3ForConditionalGeneration", 5),
    },
    "SANA-WM_bidirectional-diffusers": {
        "transformer/config.json": config(_class_name="SanaWMTransformer3DModel"),
        f"transformer/{WEIGHTS}": STAGE1,
        **vae_files("vae", causal=False),
        **gemma_files("text_encoder", "Gemma2Model", 2),
    },
    "SANA-WM_bidirectional-diffusers-refiner": {
        **refiner_files("transformer", _class_name="SanaWMLTX2RefinerTransformer3DModel"),
        **connectors_files("connectors"),
        **gemma_files("text_encoder", "Gemma3ForConditionalGeneration", 2),
    },
}
HELD = {
    "SANA-WM_bidirectional": {
        "stage1_bidirectional": "dit/sana_wm_1600m_720p.safetensors",
        "vae": "vae",
        "refiner": "refiner/transformer",
        "connectors": "refiner/connectors",
        "gemma_3_12b": "refiner/text_encoder",
    },
    "SANA-WM_chunk_causal": {"stage1_chunk_causal": "dit/sana_wm_chunk_causal_1600m_720p.safetensors"},
    "SANA-WM_streaming": {
        "vae_causal": "ltx2_causal_vae",
        "refiner_streaming": "refiner_diffusers/transformer",
        "connectors_streaming": "refiner_diffusers/connectors",
        "gemma_3_12b": "gemma3_12b",
    },
    "SANA-WM_bidirectional-diffusers": {
        "stage1_bidirectional": f"transformer/{WEIGHTS}",
        "vae": "vae",
        "gemma_2_2b": "text_encoder",
    },
    "SANA-WM_bidirectional-diffusers-refiner": {
        "refiner": "transformer",
        "connectors": "connectors",
        "gemma_3_12b": "text_encoder",
    },
}


def lay_out(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.mark.parametrize("is_below", [True, False])
@pytest.mark.parametrize("repository", RELEASED)
def test_components_are_found_in_the_published_layouts(tmp_path, repository, is_below):
    copy = lay_out(tmp_path / repository, RELEASED[repository])
    root = tmp_path if is_below else copy
    found = {id: find(root, id) for id in COMPONENTS}
    assert {id: place for id, place in found.items() if place} == {
        id: copy / place for id, place in HELD[repository].items()
    }
    for id, place in HELD[repository].items():
        check(copy / place, COMPONENTS[id])
        assert "no hash is known" in verify(root, id)


def test_a_plain_folder_for_each_component_will_do(tmp_path):
    lay_out(tmp_path, {**refiner_files("refiner"), **refiner_files("refiner_streaming", seed=1)})
    assert find(tmp_path, "refiner") == tmp_path / "refiner"
    assert find(tmp_path, "refiner_streaming") == tmp_path / "refiner_streaming"
    assert find(tmp_path, "vae") is None and state(tmp_path, "vae") == "missing"


def test_a_missing_shard_is_not_found(tmp_path):
    lay_out(tmp_path, gemma_files("gemma_3_12b", "Gemma3ForConditionalGeneration", 11))
    assert find(tmp_path, "gemma_3_12b")
    (tmp_path / "gemma_3_12b" / "model-00007-of-00011.safetensors").unlink()
    assert find(tmp_path, "gemma_3_12b") is None and state(tmp_path, "gemma_3_12b") == "partial"
    with pytest.raises(
        ProtocolError, match="incomplete: model-00007-of-00011.safetensors, added_tokens.json"
    ):
        verify(tmp_path, "gemma_3_12b")


def recorded(root, id, files):
    lay_out(root, files)
    entries = {
        name.rpartition("/")[2]: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    record_installed(root, id, {"repository": "here", "revision": "0" * 40, "files": entries})


def test_a_changed_byte_and_a_lost_end_are_named(tmp_path):
    recorded(tmp_path, "refiner", refiner_files("refiner", filler_bytes=100))
    assert verify(tmp_path, "refiner") == "Refiner is whole."
    path = tmp_path / "refiner" / WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\xff")
    with pytest.raises(ProtocolError, match="not the file that was published: its SHA-256 is"):
        verify(tmp_path, "refiner")
    path.write_bytes(content[:-1])
    assert find(tmp_path, "refiner") is None
    with pytest.raises(ProtocolError, match="has .* bytes instead of"):
        verify(tmp_path, "refiner")


def test_the_other_releases_refiner_is_told_by_its_hash(tmp_path):
    recorded(tmp_path, "refiner_streaming", refiner_files("refiner_streaming", seed=1))
    lay_out(tmp_path, refiner_files("refiner", seed=1))
    with pytest.raises(
        ProtocolError, match="of Refiner is the .* of Refiner, streaming, which has the same shapes"
    ):
        verify(tmp_path, "refiner")


def refusal(folder, id, files):
    with pytest.raises(ProtocolError) as refused:
        check(lay_out(folder, files) / id, COMPONENTS[id])
    sentence = str(refused.value)
    assert sentence.endswith(".") and "\n" not in sentence
    return sentence


def test_a_truncated_file_is_named(tmp_path):
    files = refiner_files("refiner", filler_bytes=1000)
    files[f"refiner/{WEIGHTS}"] = files[f"refiner/{WEIGHTS}"][:-1]
    assert "is truncated: " in refusal(tmp_path, "refiner", files)
    files[f"refiner/{WEIGHTS}"] = files[f"refiner/{WEIGHTS}"][:40]
    assert "truncated within its header" in refusal(tmp_path, "refiner", files)
    files[f"refiner/{WEIGHTS}"] = b"<html>Sign in</html>"
    assert "is not a safetensors file" in refusal(tmp_path, "refiner", files)


def test_pickles_are_not_opened(tmp_path):
    files = refiner_files("refiner")
    del files[f"refiner/{WEIGHTS}"]
    assert "only pytorch_model.bin" in refusal(
        tmp_path, "refiner", {**files, "refiner/pytorch_model.bin": b""}
    )
    for first in (pickle.dumps({}), b"PK\x03\x04 as torch.save writes"):
        assert "is a pickle" in refusal(tmp_path, "refiner", {**files, f"refiner/{WEIGHTS}": first})


def test_a_header_as_long_as_a_pickles_first_byte_is_read(tmp_path):
    content = next(
        made
        for n in range(400)
        if (made := safetensors({"blocks.0.attn.qkv.weight": [1], "a" * n: [1]}))[0] == 0x80
    )
    name = COMPONENTS["stage1_bidirectional"].weights[0]
    check(lay_out(tmp_path, {name: content}) / name, COMPONENTS["stage1_bidirectional"])


@pytest.mark.parametrize("switch", ["gated_attn", "audio_gated_attn", "cross_attn_mod"])
def test_later_generations_are_known_by_their_config(tmp_path, switch):
    assert "LTX-2.3 or later" in refusal(tmp_path, "refiner", refiner_files("refiner", **{switch: True}))


def test_later_generations_are_known_by_their_tables(tmp_path):
    assert "LTX-2.3 or later" in refusal(tmp_path, "refiner", refiner_files("refiner", rows=9))


def test_another_models_folder_is_named(tmp_path):
    files = {
        f"refiner/{name}": content
        for name, content in (("config.json", config(_class_name="FluxTransformer2D")),)
    }
    assert "names FluxTransformer2D instead of" in refusal(tmp_path, "refiner", files)
    files = refiner_files("refiner")
    files[f"refiner/{WEIGHTS}"] = safetensors({"something.else": [1]})
    assert "is not Refiner: it has no transformer_blocks" in refusal(tmp_path, "refiner", files)


def test_the_vaes_of_both_releases_are_told_by_their_config(tmp_path):
    assert "causal decoder of the other release" in refusal(tmp_path, "vae", vae_files("vae", causal=True))
