"""What the wild holds: each handled or refused with a clear error, and counted; nothing that is sound is lost beside it."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import orjson
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from datatrove.data import Document

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus import build
from megatron_snow.corpus.broken import Broken
from megatron_snow.corpus.folder import Row, check_columns, folder_files, read_rows, row_groups
from megatron_snow.corpus.funnel import Funnel
from megatron_snow.corpus.language import holds_another
from megatron_snow.corpus.settings import CorpusSettings, FolderSource
from megatron_snow.corpus.steps import LanguageStep, ReadStep
from tests.corpus.test_build import code, row

SOUND = [row(f"owner/r{r}", f"m{i}.py", code(f"r{r}m{i}")) for r in range(4) for i in range(2)]


def lines(rows: list[dict]) -> bytes:
    return b"".join(orjson.dumps(one) + b"\n" for one in rows)


def built(folder: Path, work: Path) -> tuple[dict, list[str]]:
    """The summary and the paths of what is kept."""
    work.mkdir()
    build(CorpusSettings(sources=(FolderSource(name="rows", path=folder),), heldout_fraction=0.3, workers=1), 1, work)
    documents = [d for side in ("standard", "heldout") for d in read_documents(work / side)]
    return json.loads((work / "summary.json").read_text()), sorted(f"{d['repository']}/{d['path']}" for d in documents)


def test_a_folder_with_everything_in_it_keeps_what_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Empty shards, shards cut short, links in a circle, rows of every bad sort; the good rows are all there."""
    folder = tmp_path / "rows"
    (folder / "deep").mkdir(parents=True)
    for name, content in {
        "e.jsonl": b"",
        "e2.jsonl": b"\n\n \n",
        "e.jsonl.gz": gzip.compress(b""),
        "e.jsonl.zst": zstandard.compress(b""),
        "f.jsonl.gz": b"",
    }.items():
        (folder / name).write_bytes(content)
    pyarrow.parquet.write_table(pyarrow.table({name: pyarrow.array([], pyarrow.string()) for name in ("content", "path", "repo_name")}), folder / "e.parquet")
    os.symlink(folder, folder / "deep/around")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/h.jsonl").write_bytes(lines([row("owner/linked", "a.py", code("linked"))]))
    os.symlink(tmp_path / "elsewhere", folder / "linked")
    os.symlink(tmp_path / "elsewhere/h.jsonl", folder / "h.jsonl")
    os.symlink(folder / "loop2.jsonl", folder / "loop1.jsonl")
    os.symlink(folder / "loop1.jsonl", folder / "loop2.jsonl")
    os.symlink(folder / "nowhere.jsonl", folder / "dangling.jsonl")
    many, more = ([row(f"owner/{name}", f"c{i}.py", code(f"{name}{i * 7919}", 90)) for i in range(100)] for name in ("many", "more"))
    whole_gz, whole_zst = gzip.compress(lines(many)), zstandard.compress(lines(more), level=1)
    (folder / "cut.jsonl.gz").write_bytes(whole_gz[: len(whole_gz) * 9 // 10])
    (folder / "cut.jsonl.zst").write_bytes(whole_zst[: len(whole_zst) * 9 // 10])
    bad = [
        row("owner/bad", "nul.py", "a\0b"),
        row("owner/bad", "wide.py", "x = " + "1" * 9_000_000),
        row("owner/bad", "page.py", "<!DOCTYPE html>\n<html><body>404: not found</body></html>\n" * 3),
        row("owner/bad", "large.py", "y = 1\n" * 2_000_000),
        row("owner/bad", "blank.py", " \n\n"),
    ]
    (folder / "g.jsonl").write_bytes(lines(SOUND + bad) + b'{"content": "\xff\xfe", "path": "p", "repo_name": "r"}\nnot json\n[1, 2]\n')
    summary, kept = built(folder, tmp_path / "work")
    assert summary["drops"] == {
        "damaged file": {"unknown": 2},
        "holds NUL bytes": {"unknown": 1},
        "long lines": {"Python": 1},
        "holds another language": {"Python": 1},
        "too large": {"unknown": 1},
        "empty": {"unknown": 1},
        "malformed row": {"unknown": 3},
    }
    told = summary["sources"]["rows"]
    assert told["files"] == 6 + 2 + 1 + 1 and told["empty files"] == 5  # the parquet holds rows as far as its schema goes; a link to a file is a file
    assert told["linked folders not followed"] == 2 and told["links that lead to no file"] == 3
    said = capsys.readouterr().err
    assert "source rows: 2 linked folders not followed" in said and "source rows: 3 links that lead to no file" in said
    assert "owner/linked/a.py" in kept
    assert {f"owner/r{r}/m{i}.py" for r in range(4) for i in range(2)} <= set(kept)
    assert len([path for path in kept if path.startswith("owner/many")]) > 50 and len([path for path in kept if path.startswith("owner/more")]) > 50


def test_a_folder_of_empty_shards_only_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"")
    with pytest.raises(SnowError, match="source rows has nothing to read"):
        built(folder, tmp_path / "work")


def test_the_stack_v2_without_contents_is_refused_by_name(tmp_path: Path) -> None:
    source = FolderSource(name="v2", path=tmp_path)
    published = {"blob_id": "f00", "path": "/a.py", "repo_name": "o/r", "detected_licenses": ["MIT"], "src_encoding": "UTF-8"}
    (tmp_path / "a.jsonl").write_bytes(lines([published]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([published]), tmp_path / "b.parquet")
    for file in folder_files(source)[0]:
        with pytest.raises(SnowError, match=r"names its files by blob_id and does not hold them, as The Stack v2 is published; fetch the contents"):
            check_columns(source, file)


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz"])
def test_a_shard_cut_short_yields_its_whole_rows_and_says_so(tmp_path: Path, name: str) -> None:
    rows = [row("o/r", f"{i}.py", f"{i * 7919 % 10007}\n" * 9) for i in range(3_000)]
    packed = (zstandard.compress if name.endswith("zst") else gzip.compress)(lines(rows))
    for size in (len(packed) - 1, len(packed) // 2):
        (tmp_path / name).write_bytes(packed[:size])
        found = list(read_rows(tmp_path / name, None, 10**6))
        assert isinstance(found[-1], Broken) and found[-1].reason in ("damaged file", "malformed row")
        assert any(isinstance(one, Broken) and one.reason == "damaged file" for one in found)
        usable = [one for one in found if isinstance(one, Row)]
        assert len(usable) > 500 and [one.text for one in usable] == [one["content"] for one in rows[: len(usable)]]
    assert row_groups(tmp_path / name) == [(None, size)]


def test_a_line_of_100_megabytes_costs_neither_memory_nor_the_rows_beside_it(tmp_path: Path) -> None:
    """In a shard, and as a file of an installed package."""
    shard = tmp_path / "a.jsonl"
    with shard.open("wb") as out:
        out.write(lines(SOUND[:1]) + b'{"content": "')
        for _ in range(100):
            out.write(b"x" * 2**20)
        out.write(b'", "path": "a.py", "repo_name": "o/r"}\n' + lines(SOUND[1:2]))
    (tmp_path / "wide.py").write_bytes(b"x" * (100 * 2**20))
    item = {"kind": "file", "source": "s", "repository": "r", "path": "wide.py", "location": str(tmp_path / "wide.py"), "license": "", "hint": "Python"}
    listing = tmp_path / "listing"
    listing.mkdir()
    (listing / "00000.jsonl").write_bytes(lines([item]))
    funnel = Funnel()
    tracemalloc.start()
    found = list(read_rows(shard, None, 10**6))
    assert list(ReadStep(listing, CorpusSettings(max_file_bytes=10**6), funnel).run(iter(()), 0, 1)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [one.reason if isinstance(one, Broken) else "row" for one in found] == ["row", "too large", "row"]
    assert funnel.drops["too large"] == {"Python": 1} and funnel.documents_in == 1
    assert peak < 40 * 2**20


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("a.py", "<!DOCTYPE html>\n<html><body>Not found</body></html>", "holds another language"),
        ("a.go", '\n<?xml version="1.0"?>\n<a/>', "holds another language"),
        ("a.py", '{"cells": [], "nbformat": 4}', "holds another language"),
        ("a.java", "%PDF-1.4 rest", "holds another language"),
        ("a.rb", "diff --git a/x.rb b/x.rb\n--- a/x.rb\n", "holds another language"),
        ("a.py", "#!/usr/bin/perl\nuse strict;\nmy $x = 1;\n", "holds another language"),
        ("a.py", '#!/bin/sh\n"exec" "python3" "$0"\nimport os\n', None),  # a shell script and Python at once, as is done
        ("a.ts", "#!/usr/bin/env node\nexport const x: number = 1;\n", None),
        ("a.html", "<!DOCTYPE html>\n<html><body>Found</body></html>", None),
        ("a.php", "<!DOCTYPE html>\n<html><?php echo 1; ?></html>", None),
        ("a.py", "page = '<!DOCTYPE html>'\n", None),
        ("a.ipynb", '{"cells": [], "nbformat": 4}', None),
    ],
)
def test_files_that_claim_one_language_and_hold_another(path: str, text: str, reason: str | None) -> None:
    step = LanguageStep(CorpusSettings(), Funnel())
    assert step.judge(Document(text=text, id="d", metadata={"path": path, "language": ""})) == reason


def test_no_file_of_the_standard_library_holds_another_language() -> None:
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    assert len(files) > 100 and not any(holds_another("Python", file.read_text(errors="replace")) for file in files)
