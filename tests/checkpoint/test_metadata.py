from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.metadata import read_metadata


def test_metadata_is_what_torch_reads(checkpoint: Path) -> None:
    ours, theirs = read_metadata(checkpoint), FileSystemReader(checkpoint).read_metadata()
    assert ours.state_dict_metadata == theirs.state_dict_metadata
    assert ours.storage_data == theirs.storage_data
    assert len(ours.state_dict_metadata) == 4 * (6 * 4 + 3)  # weights, fp32 weights and two moments of every tensor


class Runs:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


def test_code_in_metadata_is_not_run(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Runs(tmp_path / "ran")))
    with pytest.raises(SnowError, match=r"posix\.mkdir, which has no place there"):
        read_metadata(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"not a pickle", pickle.dumps({"a": torch.Size([1])})])
def test_damaged_metadata_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".metadata").write_bytes(content)
    with pytest.raises(SnowError, match="use another checkpoint"):
        read_metadata(tmp_path)


def test_every_truncation_is_a_clear_error(checkpoint: Path) -> None:
    path = checkpoint / ".metadata"
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(SnowError, match="is damaged or foreign"):
            read_metadata(checkpoint)


def test_missing_metadata_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"holds no \.metadata"):
        read_metadata(tmp_path)
