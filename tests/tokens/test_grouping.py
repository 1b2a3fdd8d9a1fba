"""Which files stand in one training document."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from megatron_snow.artifacts.documents import Document, read_documents, write_documents
from megatron_snow.tokens.grouping import Position, gather_repositories, training_documents
from megatron_snow.tokens.settings import TierFormat


def row(language: str, repository: str, name: str, text: str = "x") -> Document:
    return {"id": f"s/{repository}/{name}", "text": text, "language": language, "repository": repository, "path": name, "license": "", "source": "s"}


ROWS = [
    row("C", "a", "1.c"),
    row("C", "a", "2.c", "long" * 30),
    row("C", "b", "1.c"),
    row("Python", "a", "1.py"),
    row("Python", "a", "2.py"),
    row("Python", "c", "1.py"),
]


def grouped(tier: Path, form: TierFormat, limit: int = 10**9, start: Position | None = None, seed: int = 0) -> list[list[str]]:
    return [[file["id"][2:] for file in one.files] for one in training_documents(tier, form, limit, seed, start or Position())]


@pytest.fixture
def tier(tmp_path: Path) -> Path:
    write_documents(tmp_path / "tier", ROWS, shard_bytes=300)  # two rows a shard: groups span shards
    assert len(list((tmp_path / "tier").iterdir())) == 3
    return tmp_path / "tier"


def test_language_then_repository_is_runs_of_rows(tier: Path) -> None:
    assert grouped(tier, TierFormat()) == [["a/1.c", "a/2.c"], ["b/1.c"], ["a/1.py", "a/2.py"], ["c/1.py"]]


def test_files_by_themselves(tier: Path) -> None:
    assert grouped(tier, TierFormat(grouping="file")) == [[r["id"][2:]] for r in ROWS]


def test_repositories_are_gathered_over_languages(tier: Path, tmp_path: Path) -> None:
    gather_repositories(tier, tmp_path / "gathered", seed=1)
    rows = list(read_documents(tmp_path / "gathered"))
    assert sorted(r["id"] for r in rows) == sorted(r["id"] for r in ROWS)
    assert all(r in ROWS for r in rows)
    documents = grouped(tmp_path / "gathered", TierFormat(grouping="repository"))
    assert sorted(map(sorted, documents)) == [["a/1.c", "a/1.py", "a/2.c", "a/2.py"], ["b/1.c"], ["c/1.py"]]
    assert not list((tmp_path / "gathered").glob("*.spread"))
    orders = set()
    for seed in range(8):
        gather_repositories(tier, tmp_path / f"gathered{seed}", seed)
        orders.add(tuple(next(d for d in grouped(tmp_path / f"gathered{seed}", TierFormat(grouping="repository")) if len(d) == 4)))
    assert len(orders) > 3  # the seed decides the order of the files


def test_language_of_a_mixed_document_is_the_largest(tier: Path, tmp_path: Path) -> None:
    gather_repositories(tier, tmp_path / "gathered", seed=1)
    languages = {
        d.files[0]["repository"]: d.language for d in training_documents(tmp_path / "gathered", TierFormat(grouping="repository"), 10**9, 0, Position())
    }
    assert languages == {"a": "C", "b": "C", "c": "Python"}


@pytest.mark.parametrize("limit", [1, 2, 121, 10**9])
@pytest.mark.parametrize("grouping", ["language_repository", "file"])
def test_every_document_is_a_place_to_go_on_from(tier: Path, limit: int, grouping: str) -> None:
    form = TierFormat.model_validate({"grouping": grouping})
    documents = list(training_documents(tier, form, limit, 0, Position()))
    assert [file["id"] for one in documents for file in one.files] == [r["id"] for r in ROWS]
    for one in documents:
        assert len(one.files) == 1 or sum(len(file["text"]) for file in one.files) <= limit
    whole = grouped(tier, form, limit)
    for number, one in enumerate(documents[:-1], start=1):
        assert one.after is not None
        assert grouped(tier, form, limit, one.after) == whole[number:]
    assert documents[-1].after is None


def test_metadata_depends_on_the_group_alone(tmp_path: Path) -> None:
    rows = [row("Python", f"r{i:03d}", f"{j}.py") for i in range(400) for j in range(2)]
    write_documents(tmp_path / "all", rows)
    write_documents(tmp_path / "some", [r for i, r in enumerate(rows) if i % 4 == 0])

    def named(tier: str, seed: int, share: float, rows: Iterable[str] | None = None) -> set[str]:
        form = TierFormat(repository_metadata=share)
        return {d.files[0]["repository"] for d in training_documents(tmp_path / tier, form, 10**9, seed, Position()) if d.with_metadata}

    half = named("all", 1, 0.5)
    assert 150 < len(half) < 250
    assert named("some", 1, 0.5) == {r for r in half if int(r[1:]) % 2 == 0}
    assert named("all", 2, 0.5) != half
    assert named("all", 1, 0.2) < half  # a lower share is a subset: comparing shares compares little else
    assert (len(named("all", 1, 0)), len(named("all", 1, 1))) == (0, 400)


def test_pieces() -> None:
    from megatron_snow.tokens.grouping import TrainingDocument

    assert TrainingDocument(ROWS[:2], True, None).pieces() == ["a", "1.c\nx", "2.c\n" + "long" * 30]
    assert TrainingDocument(ROWS[:2], False, None).pieces() == ["x", "long" * 30]
