"""What is listed before anything is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.listing import make_listing, read_task
from megatron_snow.corpus.settings import CorpusSettings, DistributionsSource, FolderSource, StdlibSource


def listed(settings: CorpusSettings, folder: Path, seed: int = 1) -> tuple[dict, list[dict]]:
    listing = make_listing(settings, seed, folder)
    return listing, [item for task in range(listing["tasks"]) for item in read_task(folder, task)]


def test_installed_files_are_accounted_for_and_capped(tmp_path: Path) -> None:
    sources = (StdlibSource(only=("email", "json", "csv"), max_bytes=300_000), DistributionsSource(only=("PyYAML",)))
    listing, items = listed(CorpusSettings(sources=sources), tmp_path)
    counts = listing["sources"]["stdlib"]
    assert counts["files"] == counts["not code by name"] + counts["too large"] + counts["not sampled"] + counts["read"]
    assert 200_000 < counts["bytes read"] <= 300_000
    repositories = {item["repository"] for item in items}
    assert repositories == {"python/cpython/email", "python/cpython/json", "python/cpython/csv", "pyyaml"}
    assert not any(item["location"].endswith((".pyc", ".so")) for item in items)
    assert listing["bytes"] == sum(Path(item["location"]).stat().st_size for item in items)


def test_a_finished_listing_is_taken_as_it_is(tmp_path: Path) -> None:
    settings = CorpusSettings(sources=(StdlibSource(only=("json",)),))
    first = make_listing(settings, 1, tmp_path)
    marker = tmp_path / "listing.json"
    before = marker.stat().st_mtime_ns
    assert make_listing(settings, 1, tmp_path) == first and marker.stat().st_mtime_ns == before


def rows(folder: Path, files: int) -> FolderSource:
    """Sixty rows of ten repositories, dealt into files."""
    folder.mkdir()
    lines = [json.dumps({"content": f"x = {i}\n" * 100, "path": f"f{i}.py", "repo_name": f"o/r{i % 10}"}) for i in range(60)]
    for number in range(files):
        (folder / f"{number}.jsonl").write_text("\n".join(lines[number::files]) + "\nbroken\n")
    return FolderSource(name="rows", path=folder, max_bytes=20_000)


def test_a_capped_folder_yields_the_same_rows_in_any_number_of_files(tmp_path: Path) -> None:
    chosen = []
    for files in (1, 4):
        source = rows(tmp_path / f"in{files}", files)
        listing, items = listed(CorpusSettings(sources=(source,)), tmp_path / f"out{files}")
        contents = {item["location"]: Path(item["location"]).read_text().splitlines() for item in items}
        chosen.append(sorted(json.loads(contents[item["location"]][number])["path"] for item in items for number in item["rows"]))
        assert listing["sources"]["rows"]["rows"] == 60 and listing["sources"]["rows"]["unusable rows"] == {"malformed row": files}
        assert len(chosen[-1]) == 60 - listing["sources"]["rows"]["not sampled"]
    assert chosen[0] == chosen[1] and 20 < len(chosen[0]) < 40


def test_a_source_without_wanted_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SnowError, match="source stdlib has nothing to read"):
        make_listing(CorpusSettings(sources=(StdlibSource(only=("json",)),), languages=("Java",)), 1, tmp_path)


def test_sources_need_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="two sources are called 'stdlib'"):
        CorpusSettings(sources=(StdlibSource(), StdlibSource()))
