from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import list_files
from megatron_snow.artifacts.units import Duration
from megatron_snow.checkpoint.store import (
    DESCRIPTION,
    FORMAT,
    Description,
    begin,
    checkpoints,
    clear_leftovers,
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
        format=FORMAT, phase="general", step=step, tokens=step * 256, model=ModelSettings(hidden=64, heads=4, kv_heads=2), vocabulary=256, sequence=32,
        precision="bf16", layout=Layout(tensor=2), seed=1,
    )  # fmt: skip


def save(training: Path, step: int) -> Path:
    saving = begin(training, step)
    (saving / "part").write_bytes(b"weights of step %d" % step)
    return publish(saving, training, description(step), list_files(saving))


def test_published_checkpoint_is_the_latest_and_says_what_it_is(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    folder = save(tmp_path, 120)
    assert folder == tmp_path / "checkpoints" / "step-00000120" == latest(tmp_path)
    assert read_description(folder).model_copy(update={"files": {}, "sha256": ""}) == description(120)
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
    folder = publish(saving, tmp_path, description(3), list_files(saving))
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
    (folder / DESCRIPTION).write_text(json.dumps(written | {"format": FORMAT + 1, "unheard_of": 1}))
    with pytest.raises(SnowError, match=f"format {FORMAT + 1}, this version reads {FORMAT}: upgrade megatron_snow"):
        read_description(folder)
    (folder / DESCRIPTION).write_text(json.dumps({name: value for name, value in written.items() if name != "sha256"} | {"format": 1}))
    with pytest.raises(SnowError, match=f"format 1, this version reads {FORMAT}: use another checkpoint"):
        read_description(folder)
    (folder / DESCRIPTION).write_text(json.dumps(written | {"step": 4}))
    with pytest.raises(SnowError, match="is not what was saved"):
        read_description(folder)
    (folder / DESCRIPTION).write_text("{")
    with pytest.raises(SnowError, match="is damaged or foreign"):
        read_description(folder)


@pytest.mark.parametrize(
    ("keep_every", "stay"),
    [
        (Duration(amount=4, unit="steps"), [4, 8, 12, 14, 16]),
        (Duration(amount=5 * 256, unit="tokens"), [6, 10, 14, 16]),
        (Duration(amount=99, unit="steps"), [14, 16]),
    ],
)
def test_the_first_checkpoint_of_each_stretch_stays_for_good(tmp_path: Path, keep_every: Duration, stay: list[int]) -> None:
    for step in range(2, 18, 2):
        save(tmp_path, step)
        prune(tmp_path, 2, keep_every)
    assert [read_description(folder).step for folder in checkpoints(tmp_path)] == stay


def test_a_damaged_checkpoint_does_not_keep_others_from_being_pruned(tmp_path: Path) -> None:
    folders = [save(tmp_path, step) for step in (4, 8, 12, 16)]
    (folders[0] / DESCRIPTION).write_text("{")
    prune(tmp_path, 1, Duration(amount=8, unit="steps"))
    assert checkpoints(tmp_path) == [folders[1], folders[3]]


def test_what_killed_saves_and_deletions_left_is_cleared_away(tmp_path: Path) -> None:
    whole = save(tmp_path, 3)
    begin(tmp_path, 6)
    whole.with_name(".step-00000001.deleting").mkdir()
    clear_leftovers(tmp_path)
    assert list(whole.parent.iterdir()) == [whole]
