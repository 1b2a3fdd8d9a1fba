"""Benchmark items inside files, exact, reformatted and edited: against the Python twin, on every problem of every benchmark that is at hand."""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.benchmarks.humaneval import load_humaneval
from megatron_snow.benchmarks.sources import FOLDER_VARIABLE
from megatron_snow.benchmarks.wordings import WORDINGS, Wording, load_wordings
from megatron_snow.corpus import native, reference
from megatron_snow.corpus.decontamination import Detector, Item, items, normalised
from megatron_snow.corpus.settings import DecontaminationSettings

SOUGHT = items(load_humaneval())
DETECTOR = Detector(SOUGHT, 30)
CODE = "import os\n\n\ndef main(path):\n    for name in sorted(os.listdir(path)):\n        print(name)\n"
OTHERS = ("humaneval+", "mbpp+", "evoeval", "evoeval/verbose", "evoeval/concise", "bigcodebench/complete")


def reformatted(text: str) -> str:
    """Another layout of the same text: no indentation, upper case, a break after every word."""
    return "\r\n\t".join(text.upper().split(" "))


def missed(detector: Detector, sought: list[Item]) -> list[str]:
    """Items that are not found exactly when planted as they are, or reformatted, in other code."""
    found = []
    for item in sought:
        for change in (str, reformatted):
            if not any(match.item == item and match.how == "exact" for match in detector.matches(CODE + change(item.words) + CODE)):
                found.append(item.name)
    return found


def test_every_planted_item_is_found() -> None:
    assert len(DETECTOR.items) > 300 and missed(DETECTOR, DETECTOR.items) == []


def test_every_planted_item_of_every_benchmark_is_found() -> None:
    if not os.environ.get(FOLDER_VARIABLE):
        pytest.skip(f"set {FOLDER_VARIABLE} to a folder with the published benchmark files (HumanEvalPlus*.jsonl.gz, MbppPlus*, EvoEval_*, BigCodeBench*)")
    detector = Detector.of(DecontaminationSettings.model_validate({"benchmarks": OTHERS}))
    assert {item.benchmark for item in detector.items} >= {"humaneval", "humaneval+", "mbpp+", "evoeval/difficult", "evoeval/tool_use", "bigcodebench/complete"}
    assert len(detector.items) > 6000 and len(detector.ignored) < 100
    assert missed(detector, detector.items) == []
    assert detector.matches(Path(json.__file__).read_text()) == []


PLANTED = {
    "apps": {"problem_id": 7, "question": "Polycarp has n coins; he wants to know how many pairs of different ones weigh the same.", "solutions": "[]"},
    "gsm8k": {"question": "Natalia sold clips to 48 of her friends, and then half as many in May. How many did she sell?", "answer": "#### 72"},
    "ds1000": {"prompt": "Problem:\nI have a DataFrame and want its rows shuffled by a list.\nA:\n<code>", "metadata": {"problem_id": 0}},
}
"""A row of ours in the published format of each set that is not at hand."""


@pytest.mark.parametrize("name", sorted(WORDINGS))
def test_sets_that_are_only_worded(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}_test.jsonl"
    file.write_text(json.dumps(PLANTED[name]) + "\n")
    settings = DecontaminationSettings.model_validate({"humaneval": "", "benchmarks": [{"name": name, "source": str(tmp_path)}]})
    detector = Detector.of(settings)
    text = PLANTED[name].get("question") or PLANTED[name]["prompt"]
    (match,) = detector.matches(CODE + reformatted(str(text)))
    assert (match.item.benchmark, match.how) == (name, "exact") and match.item.problem == f"{name}/{7 if name == 'apps' else 0}"
    before = settings.fingerprint()
    file.write_text(json.dumps(PLANTED[name]) + "\n\n")
    assert settings.fingerprint() != before
    file.write_text(json.dumps({"other": 1}) + "\n")
    with pytest.raises(SnowError, match=r"line 1: no text in (question|prompt)"):
        load_wordings(name, str(file))
    file.write_text("\n")
    with pytest.raises(SnowError, match="holds no problem"):
        load_wordings(name, str(file))


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown benchmark; there are: humaneval, "):
        DecontaminationSettings.model_validate({"benchmarks": ["humanevil"]})


def test_all_but_trivial_items_are_sought() -> None:
    assert len(DETECTOR.items) + len(DETECTOR.ignored) == len(SOUGHT)
    assert all(item.what == "solution" for item in DETECTOR.ignored) and len(DETECTOR.ignored) == 16
    assert "returnx+y" in [item.text for item in DETECTOR.ignored]


def test_clean_code_is_clean() -> None:
    assert DETECTOR.find(CODE) is None and DETECTOR.matches("") == []
    assert DETECTOR.find("return x + y") is None
    assert DETECTOR.find("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, a, b, c, d, e, f, g, h, i, j, k, l") is None
    assert Detector([], 30).find(CODE) is None


def test_what_was_found_is_named() -> None:
    problem = load_humaneval()[0]
    found = DETECTOR.find(problem.prompt)
    assert found is not None and (found.benchmark, found.problem, found.what) == ("humaneval", "HumanEval/0", "docstring")
    (match,) = DETECTOR.matches(problem.canonical_solution)
    assert match.row("s/r/a.py") == {
        "document": "s/r/a.py", "benchmark": "humaneval", "problem": "HumanEval/0", "what": "solution", "how": "exact", "share": 1.0,
    }  # fmt: skip


def test_a_text_that_two_problems_have_names_both() -> None:
    text = "Count the pairs of words that rhyme, but for those that are the same word twice."
    detector = Detector(items([Wording("apps", "apps/1", "question", text), Wording("gsm8k", "gsm8k/2", "question", text)]), 30)
    assert [match.item.problem for match in detector.matches(f"# {text}")] == ["apps/1", "gsm8k/2"]


def test_comment_marks_and_small_edits_do_not_hide_a_problem() -> None:
    """By n-grams, where the text is no longer there exactly; a stretch of under half of it does not count."""
    problem = load_humaneval()[0]
    words = " ".join(problem.docstrings()[0].split()).split(" ")
    commented = "".join(f"// {' '.join(words[i : i + 6])}\n" for i in range(0, len(words), 6))
    matches = DETECTOR.matches(commented)
    assert [(match.item.problem, match.how) for match in matches] == [("HumanEval/0", "n-gram")] and matches[0].share > 0.9
    edited = " ".join("other" if i == len(words) // 2 else word for i, word in enumerate(words))
    assert [match.how for match in DETECTOR.matches(edited)] == ["n-gram"]
    assert DETECTOR.matches(" ".join(words[: len(words) // 3])) == []


@given(st.lists(st.text("abc", min_size=8, max_size=14), min_size=1, max_size=6), st.text("abcAB \t\n", max_size=300))
def test_finds_what_substring_search_finds(needles: list[str], text: str) -> None:
    detector = Detector([Item(str(i), "x", needle) for i, needle in enumerate(needles)], 8)
    assert sorted({match.item.text for match in detector.matches(text)}) == sorted({needle for needle in needles if needle in normalised(text)})


WORDS = st.lists(st.sampled_from(["ab", "cd", "x", "1", "22", "Ef"]), max_size=40).map(lambda words: " ".join(words).encode())


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), st.integers(1, 5), st.floats(0.05, 1), WORDS)
def test_needles_are_the_twins(pairs: list[tuple[bytes, bytes]], width: int, overlap: float, text: bytes) -> None:
    whole = [one if len(one := b"".join(first.split()).lower()) >= 8 else b"" for first, _ in pairs]
    words = [second for _, second in pairs]
    found = native.Needles(whole, words, width, overlap).find(text)
    expected = reference.find_items(whole, words, width, overlap, text)
    assert [(item, exact) for item, exact, _ in found] == [(item, exact) for item, exact, _ in expected]
    assert [share for *_, share in found] == pytest.approx([share for *_, share in expected])


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
    assert Detector([item], 8).find("é" * 7 + " GRÖßE DER FLÄCHE\u3000IN QUADRATMETERN € ü") == item


def test_needles_refuse_what_cannot_be() -> None:
    for arguments, said in (
        (([b"a"], [b""], 5, 0.5), "8 bytes at least"), (([], [b""], 5, 0.5), "two texts for each item"), (([], [], 0, 0.5), "has words"),
        (([], [], 5, 0.0), "above 0"), (([], [], 5, 1.5), "at most 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            native.Needles(*arguments)


def test_a_detector_is_made_again_in_other_processes_and_not_copied_in_its_own() -> None:
    make, arguments = DETECTOR.__reduce__()
    text = load_humaneval()[0].prompt
    assert make(*arguments).find(text) == DETECTOR.find(text)
    assert copy.deepcopy(DETECTOR) is DETECTOR
