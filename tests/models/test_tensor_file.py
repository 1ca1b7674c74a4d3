# SPDX-License-Identifier: GPL-3.0-or-later
"""Files larger than memory: read as the safetensors library reads them, written as it writes them."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.models.tensor_file import FileTensor, mapped, write
from backend.protocol.main_memory import available_gb

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    made = {str(dtype): torch.randint(0, 2, (3, 5), generator=generator).to(dtype) for dtype in DTYPES}
    return {**made, "none": torch.zeros(0, 4), "one": torch.tensor(2.5), "line": torch.arange(7.0)}


def assert_same(found, tensors):
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].shape == tensor.shape and found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name].float(), tensor.float()), name


def test_the_librarys_files_are_read(tensors, tmp_path):
    save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    assert_same({name: entry.read() for name, entry in mapped(tmp_path / "a.safetensors").items()}, tensors)


def test_the_library_reads_what_is_written(tensors, tmp_path):
    write(
        tmp_path / "a.safetensors",
        {name: FileTensor(tuple(t.shape), t.dtype, lambda t=t: t) for name, t in tensors.items()},
    )
    assert_same(load_file(tmp_path / "a.safetensors"), tensors)


def test_a_file_larger_than_this_machines_memory_is_opened_and_read(tmp_path):
    count = math.ceil(available_gb() * 1e9)  # two bytes each
    header = {"large": {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}}
    text = json.dumps(header).encode()
    with open(tmp_path / "large.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 2 * count)
        file.seek(-2, 2)
        file.write(b"\x80\x3f")
    assert mapped(tmp_path / "large.safetensors")["large"].read()[-2:].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda content: content[:-3], "3 bytes are missing at its end"),
        (lambda content: content[:20], "header is damaged"),
        (lambda content: b"\xff" * 8 + content[8:], "has no safetensors header"),
        (lambda content: content[:4], "has no safetensors header"),
        (lambda content: content.replace(b"[0,28]", b"[0,24]"), "the place of line is wrong"),
        (lambda content: content.replace(b'"F32"', b'"F99"'), "header is damaged"),
    ],
)
def test_damage_is_told(change, said, tmp_path):
    save_file({"line": torch.arange(7.0)}, tmp_path / "whole.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(change((tmp_path / "whole.safetensors").read_bytes()))
    with pytest.raises(ValueError, match=said):
        mapped(damaged)
