"""Finds benchmark problems inside files: whole texts, white space and case removed, and by overlap of word n-grams.

The first is StarCoder2's way (arXiv 2402.19173, section 3.3), the second DeepSeek-Coder's and others' (``corpus.settings``).
Sought are the docstring, the wording, the instruction and the canonical solution of each problem. A text is there *exactly*
where it stands in the file with white space and case removed; and by *n-grams* where runs of ``ngram_words`` words that the
file shares with it cover ``ngram_overlap`` of the words that its own runs cover, so that comment marks, punctuation and edits of a few words do not hide it
(n-grams of which over half are numbers or single letters do not count: any file that counts to ten holds those).
All texts are sought at once (``csrc/needles.cpp``): the work does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from megatron_snow.benchmarks.problem import Problem
from megatron_snow.corpus import native

if TYPE_CHECKING:
    from megatron_snow.benchmarks.wordings import Wording
    from megatron_snow.corpus.settings import DecontaminationSettings

Kind = Literal["exact", "n-gram"]


def normalised(text: str) -> str:
    """The text without white space and in lower case: what is compared."""
    return "".join(text.split()).lower()


@dataclass(frozen=True, slots=True)
class Item:
    """One text to look for: which problem of which benchmark it is of, what of it, and the text as it is compared."""

    problem: str
    what: str
    text: str
    """Normalised."""
    benchmark: str = ""
    words: str = ""
    """As written, for n-grams; empty: not looked for by them."""

    @property
    def name(self) -> str:
        """``humaneval HumanEval/0 docstring``."""
        return " ".join(filter(None, (self.benchmark, self.problem, self.what)))


@dataclass(frozen=True, slots=True)
class Match:
    """An item that a text holds."""

    item: Item
    how: Kind
    share: float
    """Of the item's words that are covered; 1 where it is there exactly."""

    def row(self, document: str) -> dict[str, Any]:
        """As it is written down, JSON-able."""
        i = self.item
        return {"document": document, "benchmark": i.benchmark, "problem": i.problem, "what": i.what, "how": self.how, "share": round(self.share, 4)}


def items(problems: Iterable[Problem | Wording]) -> list[Item]:
    """What is sought of the problems; of texts that one problem has twice, one."""
    found: dict[tuple[str, str, str], Item] = {}
    for problem in problems:
        for what, text in _texts(problem):
            compared = normalised(text)
            if compared:
                found.setdefault((problem.benchmark, problem.task_id, compared), Item(problem.task_id, what, compared, problem.benchmark, text))
    return list(found.values())


def _texts(problem: Problem | Wording) -> Iterator[tuple[str, str]]:
    if not isinstance(problem, Problem):
        yield problem.what, problem.text
        return
    for text in problem.docstrings():
        yield "docstring", text
        lines = text.splitlines()
        without = [line for line in lines if not line.lstrip().startswith("assert")]  # MBPP's way: the task, then a test
        if len(without) < len(lines):
            yield "wording", "\n".join(without)
    if problem.instruction:
        yield "instruction", problem.instruction
    yield "solution", problem.canonical_solution


class Detector:
    """Looks for items. ``items``: those looked for; ``ignored``: those under ``min_characters`` that have no n-grams either."""

    def __init__(self, sought: Iterable[Item], min_characters: int, ngram_words: int = 10, ngram_overlap: float = 0.5) -> None:
        self._arguments = (list(sought), min_characters, ngram_words, ngram_overlap)
        every = self._arguments[0]
        self.items = [item for item in every if len(item.text) >= min_characters]
        self.ignored = [item for item in every if len(item.text) < min_characters]
        texts: dict[tuple[str, str], list[Item]] = {}
        for item in self.items:
            texts.setdefault((item.text, item.words.lower()), []).append(item)
        self._owners = list(texts.values())
        self._needles = native.Needles([whole.encode() for whole, _ in texts], [words.encode() for _, words in texts], ngram_words, ngram_overlap)

    @classmethod
    def of(cls, settings: DecontaminationSettings) -> Detector:
        """What a recipe asks for. Raises SnowError where a benchmark cannot be read."""
        return cls(items(settings.problems()), settings.min_characters, settings.ngram_words, settings.ngram_overlap)

    def matches(self, text: str) -> list[Match]:
        """All items that ``text`` holds; those with one text are all named."""
        if text.isascii():
            found = self._needles.find(text.encode())
        else:  # case and white space outside ASCII are Python's to fold
            found = self._needles.find(text.lower().encode(errors="replace"), normalised(text).encode(errors="replace"))
        return [Match(item, "exact" if whole else "n-gram", share) for place, whole, share in found for item in self._owners[place]]

    def find(self, text: str) -> Item | None:
        """The first item that ``text`` holds, exact ones before others."""
        found = self.matches(text)
        return min(found, key=lambda match: match.how != "exact").item if found else None

    def __deepcopy__(self, _: dict[int, Any]) -> Detector:
        return self  # nothing in it changes

    def __reduce__(self) -> tuple[Any, ...]:
        return (Detector, self._arguments)
