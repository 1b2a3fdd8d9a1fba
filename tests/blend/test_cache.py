"""The index cache: same samples with and without, found again, rebuilt when damaged, by many processes and after kill -9."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.blend import native, reference
from megatron_snow.blend.cache import IndexCache
from megatron_snow.blend.dataset import PhaseDataset
from tests.blend.test_dataset import BLEND, write_tier


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "tokens"
    write_tier(folder / "standard", [rng.integers(1, 120, 400).tolist(), [900, 1, 0, 33], rng.integers(1, 30, 200).tolist()])
    write_tier(folder / "high_quality", [[50, 60, 70]], start=700)
    age(folder)
    return folder


def age(folder: Path) -> None:
    """As if written a minute ago: a file younger than the clock's tick is read again at each start."""
    for path in folder.rglob("*.idx"):
        os.utime(path, ns=(time.time_ns() - 60 * 10**9,) * 2)


def rows(tokens: Path, cache: Path | None, count: int = 120) -> np.ndarray:
    data = PhaseDataset(tokens, BLEND, 32, 1000, seed=1, cache=cache)
    return np.stack([data[i] for i in range(count)])


def entries(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(cache.glob("*.index"))}


def settle(cache: Path) -> None:
    """Lift the entries' age over the data's, which was changed (its ctime) a moment ago."""
    for path in cache.glob("facts-*.index"):
        os.utime(path, ns=(time.time_ns() + 60 * 10**9,) * 2)


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_digest_equals_its_twin(data: bytes) -> None:
    assert native.digest(data) == reference.digest(data)


@settings(max_examples=100)
@given(st.binary(min_size=1, max_size=300), st.data())
def test_digest_tells_any_change(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    changed[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    assert len({native.digest(data), native.digest(bytes(changed)), native.digest(data + b"\0")}) == 3


def test_same_samples_with_and_without_and_the_second_start_reads_no_index(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, cache = rows(tokens, None), tmp_path / "deep" / "cache"
    assert np.array_equal(rows(tokens, cache), plain)
    before = entries(cache)
    assert {name.split("-")[0] for name in before} == {"facts", "lengths", "order"}
    settle(cache)
    monkeypatch.setattr(native, "scan_shards", None)
    monkeypatch.setattr(native, "DocumentOrder", Restored)
    assert np.array_equal(rows(tokens, cache), plain) and entries(cache) == before


class Restored:
    """Stands where the order would be built and lets it only be restored."""

    def __new__(cls, lengths: np.ndarray, key: int, offsets: np.ndarray) -> object:
        assert isinstance(offsets, np.ndarray)
        return type(ORDER)(lengths, key, offsets)


ORDER = native.DocumentOrder(np.array([1], np.int32), 0)


def test_entries_are_keyed_by_content_not_by_place(tokens: Path, tmp_path: Path) -> None:
    """The data copied to a node's own disk, the cache too: found again by content, however the copy's times look."""
    plain, cache = rows(tokens, tmp_path / "cache"), tmp_path / "node" / "cache"
    (tmp_path / "node").mkdir()
    subprocess.run(["cp", "-r", str(tokens), str(tmp_path / "cache"), str(tmp_path / "node")], check=True)
    kept = {name: text for name, text in entries(cache).items() if not name.startswith("facts")}
    assert np.array_equal(rows(tmp_path / "node" / "tokens", cache), plain)
    assert {name: text for name, text in entries(cache).items() if not name.startswith("facts")} == kept


def test_changed_data_is_noticed(tokens: Path, tmp_path: Path) -> None:
    """Two lengths exchanged: same size, same tokens."""
    cache = tmp_path / "cache"
    old = rows(tokens, cache)
    settle(cache)
    index = tokens / "standard" / "00000.idx"
    raw = bytearray(index.read_bytes())
    lengths = np.frombuffer(raw, "<i4", 400, 34)
    lengths[:] = lengths[::-1].copy()
    starts = np.frombuffer(raw, "<i8", 400, 34 + 1600)
    starts[:] = 4 * (np.cumsum(lengths) - lengths)
    index.write_bytes(raw)
    new = rows(tokens, cache)
    assert np.array_equal(new, rows(tokens, None)) and not np.array_equal(new, old)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "header", "zeros"])
@pytest.mark.parametrize("kind", ["facts", "lengths", "order"])
def test_damaged_entries_are_built_again(tokens: Path, tmp_path: Path, kind: str, damage: str) -> None:
    cache = tmp_path / "cache"
    plain, before = rows(tokens, cache), entries(cache)
    for path in cache.glob(f"{kind}-*.index"):
        raw = bytearray(path.read_bytes())
        middle = 64 + (len(raw) - 64) // 2
        if damage == "flip":
            raw[middle] ^= 4
        elif damage == "cut":
            raw = raw[:middle]
        elif damage == "empty":
            raw = bytearray()
        elif damage == "header":
            raw[20] ^= 1
        else:
            raw[64:] = bytes(len(raw) - 64)
        path.write_bytes(raw)
    settle(cache)
    assert np.array_equal(rows(tokens, cache, 1000), rows(tokens, None, 1000)) and np.array_equal(rows(tokens, cache), plain)
    assert {name: text for name, text in entries(cache).items() if name in before and not name.startswith("facts")} == {
        name: text for name, text in before.items() if not name.startswith("facts")
    }


def build(tokens: Path, cache: Path, out: multiprocessing.Queue) -> None:
    out.put(rows(tokens, cache).tobytes())


def test_many_builders_at_once(tokens: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    out: multiprocessing.Queue = context.Queue()
    builders = [context.Process(target=build, args=(tokens, tmp_path / "cache", out)) for _ in range(6)]
    for one in builders:
        one.start()
    results = {out.get(timeout=60) for _ in builders}
    for one in builders:
        one.join()
    assert results == {rows(tokens, None).tobytes()} and {path.suffix for path in (tmp_path / "cache").iterdir()} == {".index"}


KILLED = """
import sys, numpy as np
from pathlib import Path
from megatron_snow.blend.cache import IndexCache
cache, n = IndexCache(Path(sys.argv[1])), 0
print("ready", flush=True)
while True:
    cache.get(f"entry-{n % 3}", "<i8", lambda: np.arange(200_000) + n % 3)
    cache.drop(f"entry-{n % 3}")
    n += 1
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    for after in (0.0, 0.003, 0.01, 0.03):
        with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            time.sleep(after)
            process.send_signal(signal.SIGKILL)
        cache = IndexCache(tmp_path)
        for n in range(3):
            kept = cache.load(f"entry-{n}", "<i8")
            assert kept is None or np.array_equal(kept, np.arange(200_000) + n)
            assert np.array_equal(cache.get(f"entry-{n}", "<i8", lambda n=n: np.arange(200_000) + n), np.arange(200_000) + n)  # no lock is left held


def test_an_entry_may_be_made_from_others(tmp_path: Path) -> None:
    """A hundred deep: no entry waits for the lock of one that waits for it."""
    cache = IndexCache(tmp_path)

    def make(depth: int) -> np.ndarray:
        return np.array([0]) if depth == 0 else cache.get(f"entry-{depth - 1}", "<i8", lambda: make(depth - 1)) + 1

    assert cache.get("entry-100", "<i8", lambda: make(100)).tolist() == [100]
    assert len(list(tmp_path.glob("*.index"))) == 101 and not list(tmp_path.glob("*.lock"))


def test_parts_of_killed_builders_are_swept_when_old(tmp_path: Path) -> None:
    for name in ("old", "young"):
        (tmp_path / f"{name}.part").touch()
    os.utime(tmp_path / "old.part", (0, 0))
    IndexCache(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["young.part"]


def test_a_cache_that_cannot_be_written_serves_what_it_holds(
    tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    cache = tmp_path / "cache"
    rows(tokens, cache)
    held = entries(cache)
    order = next(iter(cache.glob("order-*")))
    order.unlink()
    monkeypatch.setattr(os, "replace", refuse)  # root may write anywhere, so that permissions would prove nothing
    assert np.array_equal(rows(tokens, cache), rows(tokens, None))
    assert "cannot be written (Read-only file system): indices are built in memory" in capsys.readouterr().err
    assert set(entries(cache)) == set(held) - {order.name} and not list(cache.glob("*.part"))


def test_a_file_for_a_cache(tokens: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(SnowError, match="cannot be made"):
        rows(tokens, tmp_path / "cache")
