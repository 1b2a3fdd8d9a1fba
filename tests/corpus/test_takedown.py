"""Taken-down repositories leave no byte behind; everything that was dropped is on record by name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus import build
from megatron_snow.corpus.dropped import NAME, read_dropped
from megatron_snow.corpus.settings import CorpusSettings
from megatron_snow.corpus.takedown import read_take_down, repository_key, take_down_fingerprint
from tests.corpus.test_build import code, planted, row, write_rows

MARK = "zanzibar_kettle"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """The planted corpus with r4 (whose file has a copy in r3) and a repository of marked files, some of them unusable, taken down."""
    root = tmp_path_factory.mktemp("takedown")
    marked = [row("bad/one", "a.py", code(MARK)), row("bad/one", "b.py", MARK + "\0"), row("bad/one", "c.py", f"x = '{MARK * 400}'\n")]
    (root / "list.txt").write_bytes(b"\xef\xbb\xbfOwner/R4\n# asked on Monday\n\n  https://github.com/bad/one.git  # all of it\nnever/seen\n")
    settings = CorpusSettings(sources=(write_rows(root / "rows", planted() + marked, 3),), heldout_fraction=0.15, workers=1, take_down=root / "list.txt")
    (root / "work").mkdir()
    return build(settings, 1, root / "work"), root / "work"


def test_no_byte_of_a_taken_down_repository_is_left(built: tuple[dict, Path]) -> None:
    counts, work = built
    every = [document for side in ("standard", "heldout") for document in read_documents(work / side)]
    assert not {"owner/r4", "bad/one"} & {document["repository"] for document in every}
    assert not any(MARK in document["text"] for document in every) and MARK not in (work / "summary.json").read_text()
    assert counts["drops"]["taken down"] == 3 + 4 + 1  # bad/one, and r4's four modules and its main.go


def test_the_summary_says_which_names_matched(built: tuple[dict, Path]) -> None:
    assert orjson.loads((built[1] / "summary.json").read_bytes())["taken_down"] == {"files": {"owner/r4": 5, "bad/one": 3}, "no file": ["never/seen"]}


def test_a_name_that_matches_no_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("owner/r4\nowner/mistyped\n")
    (tmp_path / "work").mkdir()
    settings = CorpusSettings(sources=(write_rows(tmp_path / "rows", planted(), 3),), heldout_fraction=0.15, workers=1, take_down=tmp_path / "list.txt")
    build(settings, 1, tmp_path / "work")
    assert "1 of the 2 repositories to take down match no file that was read: owner/mistyped" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [
        "owner/name",
        "Owner/NAME",
        "https://github.com/owner/name",
        "http://www.github.com/Owner/name/",
        "https://github.com/owner/name.git",
        "git@github.com:owner/name.git",
        "ssh://git@github.com/owner/name",
        "github.com/owner/name",
        "https://github.com/owner/name/tree/main/src",
        "https://gitlab.com/owner/name/-/issues/3",
        "https://github.com/owner/name?tab=readme",
    ],
)
def test_spellings_of_one_repository(name: str) -> None:
    assert repository_key(name) == "owner/name"


def test_repositories_apart() -> None:
    names = ["owner/name", "owner/name2", "owner", "python/cpython/json", "name.github.com/a", "owner/Ä", "owner/ä", "owner/wiki"]
    assert len({repository_key(name) for name in names}) == len(names)


def test_a_copy_that_stood_back_for_a_taken_down_file_comes_in(built: tuple[dict, Path]) -> None:
    """As if the sources had never held the repository."""
    ids = {document["id"] for side in ("standard", "heldout") for document in read_documents(built[1] / side)}
    assert "stack/owner/r3/copy.py" in ids


def test_every_drop_is_on_record(built: tuple[dict, Path]) -> None:
    _, work = built
    rows = list(read_dropped(work / NAME))
    summary = orjson.loads((work / "summary.json").read_bytes())
    assert Counter(one["reason"] for one in rows) == {reason: sum(languages.values()) for reason, languages in summary["drops"].items()}
    assert {"id": "stack/owner/r5/near.py", "reason": "near duplicate", "language": "Python", "of": "stack/owner/r6/m1.py"} in rows
    assert {"id": "stack/bad/one/b.py", "reason": "taken down", "language": "unknown", "of": ""} in rows


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file"),
        (b"\xff\xfe\x00", "invalid start byte"),
        (b"# nothing\n\n", "names no repository"),
        (b"x" * 1001, "is no repository's name"),
        (b"https://github.com/\n", "is no repository's name"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(SnowError, match=complaint):
        read_take_down(tmp_path / "list.txt")


def test_only_the_names_count(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("a/b\nc/d\n")
    other.write_text("c/d # later\n# first\na/b\n")
    assert take_down_fingerprint(one) == take_down_fingerprint(other)
    other.write_text("https://github.com/A/B.git\nc/D\n")
    assert take_down_fingerprint(one) == take_down_fingerprint(other)
    other.write_text("a/b\n")
    assert take_down_fingerprint(one) != take_down_fingerprint(other)


def test_a_damaged_record_is_named(built: tuple[dict, Path], tmp_path: Path) -> None:
    whole = (built[1] / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[:8] + b"\0\0\0\0" + whole[12:])
    with pytest.raises(SnowError, match=r"is damaged .* run `snow corpus` again"):
        list(read_dropped(tmp_path / NAME))
    with pytest.raises(SnowError, match="by an older version"):
        list(read_dropped(tmp_path / "nowhere"))
