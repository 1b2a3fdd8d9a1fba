from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.convert.safetensors_folder import INDEX, SINGLE, open_safetensors, read_tensor

TENSORS = {
    "a": torch.randn(3, 5), "b": torch.randn(7).bfloat16(), "c": torch.randn(2, 4).half(), "scalar": torch.tensor(1.5), "empty": torch.zeros(0, 4),
    "counts": torch.arange(4),
}  # fmt: skip


def two_files(folder: Path) -> Path:
    """``TENSORS`` in two files with an index."""
    parts = {"one.safetensors": ["a", "b"], "two.safetensors": ["c", "scalar", "empty", "counts"]}
    for file, names in parts.items():
        save_file({name: TENSORS[name] for name in names}, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": {name: file for file, names in parts.items() for name in names}}))
    return folder


@pytest.mark.parametrize("several", [False, True])
def test_reads_what_safetensors_wrote(tmp_path: Path, several: bool) -> None:
    if several:
        two_files(tmp_path)
    else:
        save_file(TENSORS, tmp_path / SINGLE)
    stored = open_safetensors(tmp_path)
    assert {name: one.shape for name, one in stored.items()} == {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}
    for name in ("a", "b", "c", "scalar", "empty"):
        read = read_tensor(stored[name], name)
        assert read.dtype == TENSORS[name].dtype and torch.equal(read, TENSORS[name])
    with pytest.raises(SnowError, match="counts is stored as I64"):
        read_tensor(stored["counts"], "counts")


def test_every_truncation_is_found_before_anything_is_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / SINGLE)
    whole = (tmp_path / SINGLE).read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 1]:
        (tmp_path / SINGLE).write_bytes(whole[:length])
        with pytest.raises(SnowError, match="cut short"):
            open_safetensors(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no safetensors file, or cut short in its header"),
        (b"PK\x03\x04 a zip file of pickles", "no safetensors file, or cut short in its header"),
        ((5).to_bytes(8, "little") + b"hello", "damaged header"),
        ((2).to_bytes(8, "little") + b"[]", "damaged header"),
        ((11).to_bytes(8, "little") + b'{"a": {"b"}', "damaged header"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / SINGLE).write_bytes(content)
    with pytest.raises(SnowError, match=says):
        open_safetensors(tmp_path)


@pytest.mark.parametrize("offsets", [[0, 8], [4, 0], [-4, 8], [0, None], "ab"])
def test_a_header_that_lies_is_refused(tmp_path: Path, offsets: object) -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": [3], "data_offsets": offsets}}).encode()
    (tmp_path / SINGLE).write_bytes(len(text).to_bytes(8, "little") + text + bytes(12))
    with pytest.raises(SnowError, match="damaged header"):
        open_safetensors(tmp_path)


def test_damaged_sets_are_refused(tmp_path: Path) -> None:
    two_files(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": index["weight_map"] | {"d": "one.safetensors"}}))
    with pytest.raises(SnowError, match=r"one\.safetensors does not hold d, as .*index\.json says"):
        open_safetensors(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": index["weight_map"] | {"d": "../one.safetensors"}}))
    with pytest.raises(SnowError, match=r"names '\.\./one\.safetensors', which is not a file of this folder"):
        open_safetensors(tmp_path)
    for content in ("{", "[]", '{"metadata": {}}', '{"weight_map": 3}'):
        (tmp_path / INDEX).write_text(content)
        with pytest.raises(SnowError, match=r"index\.json is damaged"):
            open_safetensors(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps(index))
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(SnowError, match=r"lacks two\.safetensors, 1 of the 2 files"):
        open_safetensors(tmp_path)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="holds neither"):
        open_safetensors(tmp_path)
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    with pytest.raises(SnowError, match=r"pickled weights \(pytorch_model\.bin\)"):
        open_safetensors(tmp_path)
