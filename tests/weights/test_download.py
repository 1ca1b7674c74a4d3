# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights from a hub on this machine: asked for, interrupted, damaged, kept to what was installed first."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.protocol import FileLock
from backend.protocol.weights_folder import find, hashes, installed, state
from tests.weights.hub import BIDIRECTIONAL, CHUNK_CAUSAL, NEWEST, Hub, refiner_files, safetensors, vae_files

ROOT = Path(__file__).parents[2]
LARGE = 24_000_000  # more than two of the blocks that arrive at once
REFINER = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub():
    files = {
        **refiner_files("refiner/transformer", seed=1, filler_bytes=LARGE),
        **vae_files("vae", causal=False),
        "dit/sana_wm_1600m_720p.safetensors": safetensors({"blocks.0.attn.qkv.weight": [8]}),
        "LICENSE": b"Whatever the license says.\n",
        "optimizer.pt": b"\x80never asked for",
    }
    served = Hub({BIDIRECTIONAL: files})
    yield served
    served.close()


def start(hub, root, *words):
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_TOKEN": "secret", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "backend", "weights", *words, "--weights", root]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(hub, root, *words):
    child = start(hub, root, *words)
    out, err = child.communicate(timeout=120)
    return child.returncode, out, err


def partial_of(root, component):
    """The growing file, once it holds something."""
    deadline = time.monotonic() + 60
    while True:
        grown = [p for p in (root / component).glob("*.safetensors.*.partial") if p.stat().st_size]
        if grown:
            return grown[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_download_is_whole_recorded_and_has_its_notices(hub, tmp_path):
    code, out, err = run(hub, tmp_path, "download", "vae", "refiner", "--accept-license", "ltx2", "--json")
    assert code == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    fractions = [event["fraction"] for event in events]
    assert events[-1]["stage"] == "done" and fractions == sorted(fractions) and fractions[-1] == 1
    assert any("Refiner: " in event["message"] and "GB" in event["message"] for event in events)
    assert find(tmp_path, "refiner") == tmp_path / "refiner" and find(tmp_path, "vae") == tmp_path / "vae"
    assert sorted(p.name for p in (tmp_path / "refiner").iterdir()) == ["config.json", REFINER]
    record = installed(tmp_path, "refiner")
    assert record["repository"] == BIDIRECTIONAL and record["revision"].startswith("90e0ff3b")
    assert set(hashes(tmp_path, "refiner")) == {"config.json", REFINER}
    assert (tmp_path / "NOTICES" / "SANA-WM_bidirectional" / "LICENSE").read_bytes().startswith(b"Whatever")
    assert "USD 10 million" in (tmp_path / "NOTICES" / "ltx2.txt").read_text("utf-8")
    assert not any(name.endswith(".pt") for name, _start, _token in hub.sent)
    assert not any(token for _name, _start, token in hub.sent)
    code, out, err = run(hub, tmp_path, "verify", "vae", "refiner")
    assert code == 0 and "Refiner is whole." in out and "2 components are whole." in out


def test_whole_files_are_not_fetched_again(hub, tmp_path):
    run(hub, tmp_path, "download", "vae", "--accept-license", "ltx2")
    hub.sent.clear()
    (tmp_path / "vae" / "config.json").unlink()
    assert state(tmp_path, "vae") == "partial"
    assert run(hub, tmp_path, "download", "vae")[0] == 0
    assert [name for name, _start, _token in hub.sent] == ["vae/config.json"]


@pytest.mark.skipif(os.name == "nt", reason="kills with SIGKILL")
def test_a_killed_download_goes_on_where_it_was(hub, tmp_path):
    path = f"refiner/transformer/{REFINER}"
    hub.holds[path] = 15_000_000
    child = start(hub, tmp_path, "download", "refiner", "--accept-license", "ltx2")
    partial = partial_of(tmp_path, "refiner")
    child.kill()
    child.wait()
    held = partial.stat().st_size
    assert not (tmp_path / "refiner" / REFINER).exists() and state(tmp_path, "refiner") == "partial"
    assert "still to come" in run(hub, tmp_path, "verify", "refiner")[2]
    hub.holds.clear()
    assert run(hub, tmp_path, "download", "refiner")[0] == 0
    assert [start for name, start, _token in hub.sent if name == path] == [0, held]
    content = hub.repositories[BIDIRECTIONAL][path]
    assert (tmp_path / "refiner" / REFINER).read_bytes() == content and not partial.exists()


@pytest.mark.skipif(os.name == "nt", reason="sends SIGTERM")
def test_a_cancelled_download_says_so_and_keeps_its_part(hub, tmp_path):
    hub.holds[f"refiner/transformer/{REFINER}"] = 15_000_000
    child = start(hub, tmp_path, "download", "refiner", "--accept-license", "ltx2", "--json")
    partial = partial_of(tmp_path, "refiner")
    child.send_signal(signal.SIGTERM)
    out, _err = child.communicate(timeout=60)
    last = json.loads(out.splitlines()[-1])
    assert child.returncode == 130 and last["stage"] == "cancelled"
    assert partial.stat().st_size and not (tmp_path / "refiner" / REFINER).exists()


def put_partial(root, content, held, of=None):
    """What an earlier download of the VAE left: `held`, under the name of `content` or of another version."""
    folder = root / "vae"
    folder.mkdir()
    digest = hashlib.sha256(of or content).hexdigest()
    (folder / f"{REFINER}.{digest[:12]}.partial").write_bytes(held)


def test_a_hub_that_sends_no_parts_sends_all(hub, tmp_path):
    content = hub.repositories[BIDIRECTIONAL][f"vae/{REFINER}"]
    hub.ignores_ranges = True
    put_partial(tmp_path, content, content[:20])
    code, _out, err = run(hub, tmp_path, "download", "vae", "--accept-license", "ltx2")
    assert code == 0, err
    assert (tmp_path / "vae" / REFINER).read_bytes() == content


def test_a_damaged_part_is_not_taken_for_the_file(hub, tmp_path):
    content = hub.repositories[BIDIRECTIONAL][f"vae/{REFINER}"]
    put_partial(tmp_path, content, bytes(20))
    assert "did not arrive" in run(hub, tmp_path, "download", "vae", "--accept-license", "ltx2")[2]
    assert run(hub, tmp_path, "download", "vae")[0] == 0


def test_a_part_of_another_version_is_not_continued(hub, tmp_path):
    content = hub.repositories[BIDIRECTIONAL][f"vae/{REFINER}"]
    put_partial(tmp_path, content, bytes(20), of=b"another version")
    assert run(hub, tmp_path, "download", "vae", "--accept-license", "ltx2")[0] == 0
    assert sorted(p.name for p in (tmp_path / "vae").iterdir()) == ["config.json", REFINER]


def test_without_acceptance_not_even_the_hub_is_asked(hub, tmp_path):
    code, out, err = run(hub, tmp_path, "download", "vae")
    assert code == 1 and "terms are not accepted yet: LTX-2 Community License" in err
    assert "USD 10 million" in out and "https://github.com/Lightricks/LTX-2" in out
    assert hub.agents == [] and not (tmp_path / "vae").exists()


def test_acceptance_is_a_command_of_its_own_too(hub, tmp_path):
    code, out, _err = run(hub, tmp_path, "accept", "ltx2,gemma")
    assert code == 0 and "Gemma is provided under and subject to" in out
    assert run(hub, tmp_path, "download", "vae")[0] == 0


def test_a_file_that_arrives_otherwise_is_removed(hub, tmp_path):
    path = f"vae/{REFINER}"
    right = hub.repositories[BIDIRECTIONAL][path]
    hub.lies[path] = right[:-1] + b"\xff"
    code, _out, err = run(hub, tmp_path, "download", "vae", "--accept-license", "ltx2")
    assert code == 1 and "did not arrive as the hub has it" in err
    assert [p.name for p in (tmp_path / "vae").iterdir()] == ["config.json"]
    hub.lies.clear()
    assert run(hub, tmp_path, "download", "vae")[0] == 0


def test_without_a_pinned_commit_the_first_download_fixes_it(hub, tmp_path):
    path = "dit/sana_wm_chunk_causal_1600m_720p.safetensors"
    hub.repositories[CHUNK_CAUSAL] = {path: safetensors({"blocks.0.attn.qkv.weight": [8]})}
    assert run(hub, tmp_path, "download", "stage1_chunk_causal", "--accept-license", "sana_wm")[0] == 0
    assert installed(tmp_path, "stage1_chunk_causal")["revision"] == NEWEST
    hub.repositories[CHUNK_CAUSAL] = {path: safetensors({"blocks.0.attn.qkv.weight": [8]}, seed=5)}
    (tmp_path / "stage1_chunk_causal" / "sana_wm_chunk_causal_1600m_720p.safetensors").unlink()
    code, _out, err = run(hub, tmp_path, "download", "stage1_chunk_causal")
    assert code == 1 and "has another dit/sana_wm_chunk_causal_1600m_720p.safetensors than the one" in err


def test_another_repository_under_the_name_is_noticed(hub, tmp_path):
    del hub.repositories[BIDIRECTIONAL]["vae/config.json"]
    code, _out, err = run(hub, tmp_path, "download", "vae", "--accept-license", "ltx2")
    assert code == 1 and "has no vae/config.json" in err and "nothing was downloaded" in err
    hub.repositories.clear()
    code, _out, err = run(hub, tmp_path, "download", "vae")
    assert code == 1 and f"The hub has no {BIDIRECTIONAL}" in err


def test_known_hashes_of_small_files_are_held_against_the_hub(hub, tmp_path):
    names = ("config.json", "special_tokens_map.json", "tokenizer.model", "tokenizer_config.json")
    weights = (
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    )
    hub.repositories["Efficient-Large-Model/gemma-2-2b-it"] = {
        name: b"{}" for name in (*names, *weights, "tokenizer.json")
    }
    code, _out, err = run(hub, tmp_path, "download", "gemma_2_2b", "--accept-license", "gemma")
    assert code == 1 and "has another tokenizer.json than the one that is known" in err


def test_a_full_disk_is_noticed_before_the_first_byte(hub, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from backend.weights.download import download\n"
        "download(Path(sys.argv[1]), ['refiner'], lambda *_: None, free_bytes=lambda _: 12_300_000_000)\n"
    )
    run(hub, tmp_path, "accept", "ltx2")
    hub.claims[f"refiner/transformer/{REFINER}"] = 37_750_000_000
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "NO_PROXY": "127.0.0.1"}
    child = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert "The download needs 37.8 GB, but only 12.3 GB are free" in child.stderr
    assert hub.sent == []


def test_a_hub_that_cannot_be_reached_is_one_sentence(hub, tmp_path):
    hub.close()
    code, _out, err = run(hub, tmp_path, "download", "vae", "--accept-license", "ltx2")
    assert code == 1 and len(err.splitlines()) == 1 and "check the network" in err


def test_removing_takes_only_what_the_registry_knows(hub, tmp_path):
    run(hub, tmp_path, "download", "vae", "--accept-license", "ltx2")
    (tmp_path / "vae" / "notes.txt").write_text("mine")
    assert run(hub, tmp_path, "remove", "vae", "refiner")[0] == 0
    assert [p.name for p in (tmp_path / "vae").iterdir()] == ["notes.txt"]
    assert installed(tmp_path, "vae") == {} and find(tmp_path, "vae") is None


def test_list_asks_nobody(hub, tmp_path):
    code, out, _err = run(hub, tmp_path / "not there", "list")
    assert code == 0 and "gemma_3_12b" in out and "48.75 GB" in out and "missing" in out
    assert hub.agents == []


def test_a_second_download_in_the_folder_waits(hub, tmp_path):
    run(hub, tmp_path, "accept", "ltx2")
    lock = FileLock(tmp_path / ".download.lock")
    assert lock.acquire("the test")
    try:
        assert "Another download is running" in run(hub, tmp_path, "download", "vae")[2]
    finally:
        lock.release()


def test_a_pickle_that_could_run_code_is_not_converted(hub, tmp_path):
    hub.repositories["Efficient-Large-Model/SANA-WM_streaming"] = {"sana_dit/model.pt": b"\x80\x04torn"}
    code, _out, err = run(hub, tmp_path, "download", "stage1_streaming", "--accept-license", "sana_wm")
    assert code == 1 and "model.pt cannot be read" in err
    assert find(tmp_path, "stage1_streaming") is None and state(tmp_path, "stage1_streaming") == "partial"
    assert "downloaded but not converted" in run(hub, tmp_path, "verify", "stage1_streaming")[2]
