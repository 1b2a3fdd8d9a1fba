"""Benchmark items inside files, exact and reformatted, against plain substring search."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.benchmarks.humaneval import load_humaneval
from megatron_snow.corpus.decontamination import Detector, Item, items, normalised

SOUGHT = items(load_humaneval())
DETECTOR = Detector(SOUGHT, 30)
CODE = "import os\n\n\ndef main(path):\n    for name in sorted(os.listdir(path)):\n        print(name)\n"


def reformatted(text: str) -> str:
    """Another layout of the same text: no indentation, upper case, a break after every word."""
    return "\r\n\t".join(text.upper().split(" "))


@pytest.mark.parametrize("change", [str, reformatted], ids=["exact", "reformatted"])
def test_every_planted_item_is_found(change) -> None:
    for problem in load_humaneval():
        for text in (*problem.docstrings(), problem.canonical_solution):
            if len(normalised(text)) >= 30:
                assert DETECTOR.find(CODE + change(text) + CODE) is not None, problem.task_id


def test_all_but_trivial_items_are_sought() -> None:
    assert len(DETECTOR.items) + len(DETECTOR.ignored) == len(SOUGHT)
    assert all(item.what == "solution" for item in DETECTOR.ignored) and len(DETECTOR.ignored) == 16
    assert "returnx+y" in [item.text for item in DETECTOR.ignored]


def test_clean_code_is_clean() -> None:
    assert DETECTOR.find(CODE) is None
    assert DETECTOR.find("") is None
    assert DETECTOR.find("return x + y") is None
    assert Detector([], 30).find(CODE) is None


def test_what_was_found_is_named() -> None:
    problem = load_humaneval()[0]
    assert DETECTOR.find(problem.prompt) == Item("HumanEval/0", "docstring", normalised(problem.docstrings()[0]))
    assert DETECTOR.find(problem.canonical_solution) == Item("HumanEval/0", "solution", normalised(problem.canonical_solution))


@given(st.lists(st.text("abc", min_size=8, max_size=14), min_size=1, max_size=6), st.text("abc ", max_size=300))
def test_finds_what_substring_search_finds(needles: list[str], text: str) -> None:
    detector = Detector([Item(str(i), "x", needle) for i, needle in enumerate(needles)], 8)
    found = detector.find(text)
    expected = {needle for needle in needles if needle in normalised(text)}
    assert (found is not None) == bool(expected)
    assert found is None or found.text in expected


def test_needle_at_every_offset_and_at_both_ends() -> None:
    rng = random.Random(0)
    item = Item("x", "x", "".join(rng.choice("pqrs") for _ in range(41)))
    detector = Detector([item], 30)
    for before in range(20):
        assert detector.find("a" * before + item.text) == item
        assert detector.find("a" * before + item.text + "b" * 5) == item
        assert detector.find("a" * before + item.text[:-1]) is None
        assert detector.find("a" * before + item.text[1:]) is None


def test_characters_outside_ascii() -> None:
    item = Item("x", "x", normalised("Größe der Fläche in Quadratmetern €"))
    assert Detector([item], 8).find("é" * 7 + " GRÖßE DER FLÄCHE IN QUADRATMETERN € ü") == item
