from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from megatron_snow.convert.safetensors_file import ShardedWriter

SHAPES = {"a": (3, 5), "b": (7,), "c": (1, 2), "d": (4, 4)}


def tensors(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize(("item", "dtype"), [("F32", torch.float32), ("BF16", torch.bfloat16)])
def test_one_file_in_any_order(tmp_path: Path, item: str, dtype: torch.dtype) -> None:
    written = tensors(dtype)
    with ShardedWriter(tmp_path, SHAPES, item) as out:
        for name in ("c", "a", "d", "b"):
            out.write(name, written[name])
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    read = load_file(tmp_path / "model.safetensors")
    assert read.keys() == written.keys() and all(torch.equal(read[name], written[name]) and read[name].dtype == dtype for name in written)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # without it transformers refuses the file


def test_shards_keep_the_limit_and_are_indexed(tmp_path: Path) -> None:
    written = tensors(torch.float32)
    with ShardedWriter(tmp_path, SHAPES, "F32", shard_bytes=100) as out:
        for name, tensor in written.items():
            out.write(name, tensor.t() if tensor.ndim == 1 else tensor.t().contiguous().t())  # memory order must not matter
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {name: f"model-0000{n}-of-00002.safetensors" for name, n in zip("abcd", (1, 1, 1, 2), strict=True)}
    assert index["metadata"]["total_size"] == out.bytes == sum(tensor.nbytes for tensor in written.values())
    for name, file in index["weight_map"].items():
        assert torch.equal(load_file(tmp_path / file)[name], written[name])


def test_a_forgotten_tensor_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="3 tensors were never written, a among them"), ShardedWriter(tmp_path, SHAPES, "F32") as out:
        out.write("b", torch.zeros(7))


def test_a_tensor_of_another_size_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="56 bytes where 28 were promised"), ShardedWriter(tmp_path, SHAPES, "F32") as out:
        out.write("b", torch.zeros(7, dtype=torch.float64))
