from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint import load as load_state
from torch.distributed.checkpoint import save as save_state

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.metadata import read_metadata
from megatron_snow.checkpoint.weights import has_optimizer, read_weights
from megatron_snow.checkpoint.weights_file import FILE, WeightsWriter

WEIGHTS = {
    "embedding.word_embeddings.weight": torch.randn(40, 8),
    "decoder.layers.0.self_attention.linear_qkv.bias": torch.randn(24).bfloat16(),
    "decoder.layers.0.mlp.linear_fc2.weight": torch.randn(16, 8).t(),
    "decoder.final_layernorm.weight": torch.randn(80)[8:16],
}


def write(folder: Path) -> Path:
    with WeightsWriter(folder) as out:
        for name, tensor in WEIGHTS.items():
            out.add(name, tensor)
    return folder


def test_torch_itself_loads_it(tmp_path: Path) -> None:
    target = {name: torch.zeros_like(tensor) for name, tensor in WEIGHTS.items()}
    load_state(target, checkpoint_id=write(tmp_path), no_dist=True)
    assert all(torch.equal(target[name], tensor) for name, tensor in WEIGHTS.items())
    found = dict(read_weights(tmp_path))
    assert found.keys() == WEIGHTS.keys() and all(torch.equal(found[name], tensor) for name, tensor in WEIGHTS.items())
    assert not has_optimizer(tmp_path)


def test_its_metadata_is_torchs_own(tmp_path: Path) -> None:
    """What torch writes for the same tensors (made contiguous), but for the planner's notes and the save's random number."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    save_state({name: tensor.contiguous() for name, tensor in WEIGHTS.items()}, checkpoint_id=tmp_path / "theirs", no_dist=True)
    theirs, ours = FileSystemReader(tmp_path / "theirs").read_metadata(), read_metadata(write(tmp_path / "ours"))
    assert ours.state_dict_metadata == theirs.state_dict_metadata
    assert ours.storage_data.keys() == theirs.storage_data.keys()
    assert {place.relative_path for place in ours.storage_data.values()} == {FILE} == {place.relative_path for place in theirs.storage_data.values()}


def test_a_view_takes_no_more_than_its_own_bytes(tmp_path: Path) -> None:
    whole = torch.randn(1000, 1000)
    with WeightsWriter(tmp_path) as out:
        out.add("decoder.final_layernorm.weight", whole[3])
        assert out.bytes < 8000


def test_an_interrupted_write_is_no_checkpoint(tmp_path: Path) -> None:
    out = WeightsWriter(tmp_path)
    out.add("decoder.final_layernorm.weight", torch.ones(3))
    out.__exit__(KeyboardInterrupt, None, None)
    with pytest.raises(SnowError, match=r"holds no \.metadata"):
        read_metadata(tmp_path)


def test_a_name_twice_is_a_bug(tmp_path: Path) -> None:
    with WeightsWriter(tmp_path) as out:
        out.add("decoder.final_layernorm.weight", torch.ones(3))
        with pytest.raises(ValueError, match="written before"):
            out.add("decoder.final_layernorm.weight", torch.ones(3))


def test_every_flipped_bit_of_a_weight_is_found(tmp_path: Path) -> None:
    path = write(tmp_path) / FILE
    whole = path.read_bytes()
    start = whole.index(WEIGHTS["embedding.word_embeddings.weight"].numpy().tobytes())
    for offset in range(start, start + 40 * 8 * 4, 111):
        flipped = bytearray(whole)
        flipped[offset] ^= 1 << offset % 8
        path.write_bytes(flipped)
        with pytest.raises(SnowError, match=r"is damaged where embedding\.word_embeddings\.weight is stored \(its checksum differs\)"):
            list(read_weights(tmp_path))


def test_every_truncation_is_a_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path) / FILE
    whole = path.read_bytes()
    for length in range(0, len(whole), 301):
        path.write_bytes(whole[:length])
        with pytest.raises(SnowError, match="cut short"):
            list(read_weights(tmp_path))
