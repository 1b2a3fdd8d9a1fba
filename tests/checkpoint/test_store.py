from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.store import (
    DESCRIPTION,
    Description,
    begin,
    checkpoints,
    latest,
    prune,
    publish,
    read_description,
    saving_folder,
    step_folder,
    verify,
)
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout


def description(step: int) -> Description:
    return Description(
        format=1, phase="general", step=step, tokens=step * 256, model=ModelSettings(hidden=64, heads=4, kv_heads=2), vocabulary=256, sequence=32,
        precision="bf16", layout=Layout(tensor=2), seed=1,
    )  # fmt: skip


def save(training: Path, step: int) -> Path:
    saving = begin(training, step)
    (saving / "part").write_bytes(b"weights of step %d" % step)
    return publish(saving, training, description(step))


def test_published_checkpoint_is_the_latest_and_says_what_it_is(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    folder = save(tmp_path, 120)
    assert folder == tmp_path / "checkpoints" / "step-00000120" == latest(tmp_path)
    assert read_description(folder).model_copy(update={"files": {}}) == description(120)
    verify(folder)
    newer = save(tmp_path, 1000)
    assert latest(tmp_path) == newer


@pytest.mark.parametrize("left", ["nothing written", "half a file", "everything but the rename"])
def test_killed_save_never_becomes_the_latest(tmp_path: Path, left: str) -> None:
    whole = save(tmp_path, 3)
    saving = begin(tmp_path, 6)
    if left != "nothing written":
        (saving / "part").write_bytes(b"wei")
    if left == "everything but the rename":
        (saving / DESCRIPTION).write_text(description(6).model_dump_json())
    assert latest(tmp_path) == whole
    newer = save(tmp_path, 6)  # clears away what was left
    assert latest(tmp_path) == newer
    assert not saving_folder(tmp_path, 6).exists()
    assert (step_folder(tmp_path, 6) / "part").read_bytes() == b"weights of step 6"


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    folders = [save(tmp_path, step) for step in (2, 4, 6, 8)]
    prune(tmp_path, keep=2)
    assert checkpoints(tmp_path) == folders[2:]
    assert sorted((tmp_path / "checkpoints").iterdir()) == folders[2:]


def test_every_kind_of_damage_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, 3)
    part = folder / "part"
    part.write_bytes(b"Weights of step 3")
    with pytest.raises(SnowError, match="is not what was saved"):
        verify(folder)
    part.write_bytes(b"weights")
    with pytest.raises(SnowError, match="has 7 bytes, 17 were saved"):
        verify(folder)
    part.unlink()
    with pytest.raises(SnowError, match="lacks part"):
        verify(folder)


def test_processes_share_the_hashing(tmp_path: Path) -> None:
    saving = begin(tmp_path, 3)
    for name in "abc":
        (saving / name).write_bytes(name.encode())
    folder = publish(saving, tmp_path, description(3))
    (folder / "b").write_bytes(b"x")
    verify(folder, part=0, parts=3)
    verify(folder, part=2, parts=3)
    with pytest.raises(SnowError, match="is not what was saved"):
        verify(folder, part=1, parts=3)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="is not a whole checkpoint"):
        read_description(tmp_path)
    folder = save(tmp_path, 3)
    written = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(written | {"format": 2}))
    with pytest.raises(SnowError, match="format 2, this version reads up to 1"):
        read_description(folder)
    (folder / DESCRIPTION).write_text("{")
    with pytest.raises(SnowError, match="is damaged or from another version"):
        read_description(folder)
