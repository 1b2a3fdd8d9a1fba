import json
import os

import pytest

from megatron_snow.artifacts import integrity
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.integrity import FOLDER, Verified
from megatron_snow.artifacts.manifest import NAME, read_manifest
from megatron_snow.artifacts.publish import Building


@pytest.fixture
def folder(tmp_path):
    building = Building(tmp_path / "1-corpus", "corpus", 1, {"cap": 5}, 7, {}).open()
    (building.work / "deep").mkdir()
    for name in ("a", "deep/b", "deep/c"):
        (building.work / name).write_text(name * 100)
    building.publish()
    return tmp_path / "1-corpus"


@pytest.fixture
def read(monkeypatch):
    """The files that were read, by name."""
    names = []
    real = integrity.hash_files

    def hash_files(paths, sizes, label):
        names.extend(path.name for path in paths)
        return real(paths, sizes, label)

    monkeypatch.setattr(integrity, "hash_files", hash_files)
    return names


def other_byte(path, keep_times=False):
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(bytes(data))
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_files_are_read_once_and_again_only_where_touched(folder, read):
    Verified(folder.parent).check(folder, "again")
    assert sorted(read) == ["a", "b", "c"]
    Verified(folder.parent).check(folder, "again")
    assert len(read) == 3
    os.utime(folder / "a", (1, 1))
    Verified(folder.parent).check(folder, "again")
    assert read[3:] == ["a"]


def test_what_was_just_published_is_not_read_again(folder, read):
    Verified(folder.parent).remember(folder)
    Verified(folder.parent).check(folder, "again")
    assert read == []


@pytest.mark.parametrize("keep_times", [False, True], ids=["edited", "edited, its time set back"])
def test_one_changed_byte_is_seen_and_stays_seen(folder, keep_times):
    verified = Verified(folder.parent)
    verified.remember(folder)
    other_byte(folder / "deep/b", keep_times)
    for _ in range(2):
        with pytest.raises(SnowError, match=r"deep/b has other contents than when it was made .* or delete .*1-corpus and run it again"):
            verified.check(folder, "run it again")
    other_byte(folder / "deep/b")  # put back
    verified.check(folder, "run it again")


def test_what_no_time_tells_is_found_by_reading_all(folder, monkeypatch):
    """A bad disk: bytes change and the file system does not know."""
    verified = Verified(folder.parent)
    verified.remember(folder)
    record = next((folder.parent / FOLDER).iterdir())
    other_byte(folder / "a")
    told = json.loads(record.read_text())
    told["files"]["a"] = integrity._stamp(folder / "a")
    record.write_text(json.dumps(told))
    verified.check(folder, "again")
    assert [fault.path.name for fault in verified.read_all(folder)] == ["a"]
    with pytest.raises(SnowError, match="other contents"):
        verified.check(folder, "again")  # known to be wrong from now on


def test_missing_and_cut_files_are_named(folder):
    (folder / "deep/c").unlink()
    (folder / "a").write_text("a")
    assert {(fault.path.name, fault.what.split(",")[0]) for fault in Verified(folder.parent).read_all(folder)} == {("c", "is missing"), ("a", "has 1 bytes")}


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"of": 1, "files": 2}', b"\xff\x00"])
def test_a_spoilt_record_only_costs_a_reading(folder, read, text):
    Verified(folder.parent).remember(folder)
    next((folder.parent / FOLDER).iterdir()).write_bytes(text)
    Verified(folder.parent).check(folder, "again")
    assert len(read) == 3


def test_a_record_of_another_making_of_the_folder_is_not_believed(folder, read):
    """The folder replaced by another's with the same names: its files are read."""
    Verified(folder.parent).remember(folder)
    again = Building(folder, "corpus", 1, {"cap": 6}, 7, {}).open()
    (again.work / "a").write_text("other")
    again.publish()
    Verified(folder.parent).check(folder, "again")
    assert read == ["a"]


def test_a_record_that_cannot_be_written_is_done_without(folder, read):
    (folder.parent / FOLDER).write_text("a file in the folder's place")
    for _ in range(2):
        Verified(folder.parent).check(folder, "again")
    assert len(read) == 6


@pytest.mark.parametrize("change", [{"seed": 8}, {"settings": {"cap": 6}}, {"counts": {"documents": 9}}, {"sha256": None}, {"seconds": 0.5}])
def test_a_manifest_edited_by_hand_is_refused(folder, change):
    path = folder / NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SnowError, match=r"manifest\.json was edited or is damaged: its sha256 is not that of what it says"):
        read_manifest(folder)


def test_a_manifest_laid_out_otherwise_is_the_same(folder):
    path = folder / NAME
    before = read_manifest(folder)
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    assert read_manifest(folder) == before


def test_a_manifest_of_format_1_is_still_read(folder):
    path = folder / NAME
    tree = json.loads(path.read_text()) | {"format": 1}
    del tree["sha256"]
    path.write_text(json.dumps(tree))
    assert read_manifest(folder).seed == 7
