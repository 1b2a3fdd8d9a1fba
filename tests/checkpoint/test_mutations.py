"""No byte of a checkpoint can change unnoticed: every file, many places, several kinds of damage."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.checkpoint.store import DESCRIPTION, Description, read_description, step_folder, verify

PLACES = 60
"""Changed in each file, the first and last byte among them; the seed is fixed."""
KINDS: dict[str, Callable[[bytes, int, random.Random], bytes]] = {
    "flipped bit": lambda data, at, chance: data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
    "other byte": lambda data, at, chance: data[:at] + bytes([(data[at] + chance.randrange(1, 256)) % 256]) + data[at + 1 :],
    "truncated": lambda data, at, chance: data[:at],
    "byte lost": lambda data, at, chance: data[:at] + data[at + 1 :],
    "byte added": lambda data, at, chance: data[:at] + bytes([chance.randrange(256)]) + data[at:],
    "zeroed tail": lambda data, at, chance: data[:at] + bytes(len(data) - at),
}
FILES = (".metadata", "common.pt", "metadata.json", DESCRIPTION, "__0_0.distcp", "__0_1.distcp", "__3_1.distcp")


def _whole(folder: Path) -> Description | None:
    """What a reader makes of the folder; None where it is refused with a message for the user. Any other error escapes."""
    try:
        verify(folder)
        return read_description(folder)
    except SnowError:
        return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_refused_or_means_the_same(name: str, kind: str, checkpoint: Path) -> None:
    path, chance = checkpoint / name, random.Random(f"{name} {kind}")
    data, description = path.read_bytes(), read_description(checkpoint)
    for at in {0, len(data) - 1, *(chance.randrange(len(data)) for _ in range(PLACES))}:
        changed = KINDS[kind](data, at, chance)
        if changed == data:
            continue
        path.write_bytes(changed)
        found = _whole(checkpoint)
        if name == DESCRIPTION:
            assert found in (None, description), f"byte {at}"  # white space of the JSON may differ, its meaning may not
        else:
            assert found is None, f"byte {at}"


def test_a_missing_file_of_any_kind_is_named(trained: Path, tmp_path: Path) -> None:
    for name in FILES:
        folder = step_folder(tmp_path / name.strip("._"), 3)
        shutil.copytree(step_folder(trained, 3), folder)
        (folder / name).unlink()
        with pytest.raises(SnowError, match=name.replace(".", r"\.")):
            verify(folder)


def test_a_file_of_another_step_is_foreign(trained: Path, checkpoint: Path) -> None:
    for name in ("__0_0.distcp", "__0_1.distcp", "common.pt"):
        kept = (checkpoint / name).read_bytes()
        shutil.copy(step_folder(trained, 5) / name, checkpoint / name)
        assert _whole(checkpoint) is None, name
        (checkpoint / name).write_bytes(kept)
    assert _whole(checkpoint) is not None
