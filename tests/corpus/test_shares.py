"""The bound of a repository's share of a language: exact by its definition, and the same whatever the order of the rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.corpus import build
from megatron_snow.corpus.dropped import NAME as DROPPED
from megatron_snow.corpus.dropped import read_dropped
from megatron_snow.corpus.settings import CorpusSettings
from megatron_snow.corpus.shares import REASON, largest_allowed, over_share
from tests.corpus.test_build import code, row, write_rows


def test_the_bound_by_hand() -> None:
    assert largest_allowed([50, 30, 20], 0.5) == float("inf")  # nothing is over
    assert largest_allowed([90, 5, 5], 0.5) == pytest.approx(10)  # 10 of 20
    assert largest_allowed([90, 90, 10, 10], 0.4) == pytest.approx(40)  # 40, 40, 10, 10
    assert largest_allowed([90, 10], 0.4) == float("inf")  # two cannot have 40 % each
    assert largest_allowed([7, 7, 7], 1 / 3) == float("inf")
    assert largest_allowed([], 0.5) == float("inf")


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=40), st.floats(0.02, 0.98))
def test_what_is_left_keeps_to_the_share_and_no_less_is_left_than_can_be(sizes: list[int], share: float) -> None:
    allowed = largest_allowed(sizes, share)
    left = [min(size, allowed) for size in sizes]
    if allowed < float("inf"):
        assert max(left) == pytest.approx(share * sum(left), rel=1e-9)
        assert max(sizes) > allowed
    elif max(sizes) > share * sum(sizes) * (1 + 1e-9):  # over, and left alone: no bound c > 0 satisfies it
        for c in [*sizes, *(size * 0.999 for size in sizes), min(sizes) / 2]:
            assert c > share * sum(min(size, c) for size in sizes) * (1 - 1e-9)


def index(rows: list[tuple[str, str, str, int]]) -> pyarrow.Table:
    names = ("id", "language", "repository", "size")
    return pyarrow.table({name: [one[at] for one in rows] for at, name in enumerate(names)} | {"digest": [one[0].encode().ljust(16) for one in rows]})


@given(st.randoms(use_true_random=False), st.sampled_from([0.1, 0.3, 0.6]))
def test_neither_order_nor_other_languages_change_what_goes(random: object, share: float) -> None:
    rows = [(f"{language}/{r}/{i}", language, f"r{r}", 10 + (7 * i + r) % 50) for language in ("Go", "C") for r in range(14) for i in range(3 if r else 60)]

    def gone(some: list[tuple[str, str, str, int]]) -> set[str]:
        marks = over_share(index(some), np.arange(len(some)), share, 3)
        return {one[0] for one, mark in zip(some, marks, strict=True) if mark}

    expected = gone(rows)
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert gone(shuffled) == expected == gone([one for one in rows if one[1] == "Go"]) | gone([one for one in rows if one[1] == "C"])
    for language in ("Go", "C"):
        left = [one for one in rows if one[1] == language and one[0] not in expected]
        most = sum(size for _, _, repository, size in left if repository == "r0")
        assert most <= share * sum(one[3] for one in left) * (1 + 1e-9) or share == 0.6


def test_the_arrow_counts_and_names_what_goes(tmp_path: Path) -> None:
    rows = [row("owner/large", f"f{i}.py", code(f"large{i}")) for i in range(30)] + [row(f"owner/r{r}", "a.py", code(f"r{r}")) for r in range(10)]
    outcomes = []
    for files, order in ((1, rows), (3, rows[::-1])):
        work = tmp_path / f"work{files}"
        work.mkdir()
        source = write_rows(tmp_path / f"rows{files}", order, files)
        counts = build(CorpusSettings(sources=(source,), heldout_fraction=0.1, workers=1, max_repository_share=0.25), 1, work)
        every = [document for side in ("standard", "heldout") for document in read_documents(work / side)]
        size = {name: sum(len(d["text"]) for d in every if (d["repository"] == "owner/large") == name) for name in (True, False)}
        assert 0 < size[True] <= 0.25 * (size[True] + size[False])
        named = sorted(drop["id"] for drop in read_dropped(work / DROPPED) if drop["reason"] == REASON)
        assert len(named) == counts["drops"][REASON] > 20 and len(every) + len(named) == len(rows)
        assert json.loads((work / "summary.json").read_text())["drops"][REASON] == {"Python": len(named)}
        outcomes.append((named, sorted(document["id"] for document in every)))
    assert outcomes[0] == outcomes[1]
    with pytest.raises(ValueError, match="less than or equal to 1"):
        CorpusSettings(max_repository_share=1.5)
