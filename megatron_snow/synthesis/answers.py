"""An answer becomes a document, or a reason why not.

The document is the file that the model wrote, with the problem as a comment in front of it: one text that states a task
and does it, which is what the paper means by problem-solving code files.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from megatron_snow.corpus.decontamination import Detector
from megatron_snow.corpus.license_policy import Policy
from megatron_snow.corpus.license_texts import header_license
from megatron_snow.corpus.redaction import Redactor
from megatron_snow.corpus.settings import DecontaminationSettings, LicenseSettings, RedactionSettings
from megatron_snow.synthesis.journal import REFUSED, Answer
from megatron_snow.synthesis.prompt import plain
from megatron_snow.synthesis.syntax import LANGUAGES, PYTHON, error_in, language_of_fence

REASONS = (
    "refused by the server", "not finished", "no code block", "no problem statement", "in another language", "repeats the prompt", "too short",
    "licence not allowed", "licence unknown", "does not parse", "contaminated", "duplicate", "near-duplicate", "near-duplicate of a seed's file",
    "fails its tests", "lint",
)  # fmt: skip
"""In the order in which they are looked for; an answer is counted under the first that applies. "holds a secret" and the like come before
"does not parse", where the recipe drops rather than redacts (``corpus.redaction``)."""

_OPENING = re.compile(r"^(?P<indent> {0,3})(?P<ticks>`{3,})[ \t]*(?P<word>[\w+#-]*)[^\n`]*\n", re.MULTILINE)
_CLOSING = re.compile(r"^ {0,3}(`{3,})[ \t]*$", re.MULTILINE)
"""Up to three spaces may stand before a fence; as many are taken from the lines within. A closing one has as many ticks as the opening
one or more, and nothing behind them (CommonMark 0.31, section 4.5)."""
_CLOSINGS = 8  # at which a block is tried to end (ours: more fences inside one file's comments are hardly code)
_HEADING = re.compile(r"^[#*\s]*(?:the\s+)?(?:programming\s+)?problem(?:\s+statement)?\s*[*:]*\s*", re.IGNORECASE)
_LAST_HEADING = re.compile(r"\n[#*\s]*(?:complete\s+)?(?:solution|file|code|source file|answer)[^\n]{0,40}[:*]*\s*$", re.IGNORECASE)
_SHORTEST_PROBLEM = 20  # characters (ours): "Solve this." states nothing


@dataclass(frozen=True)
class Verdict:
    """``reason`` is empty where the answer became a document's ``text``."""

    reason: str
    text: str = ""
    detail: str = ""

    @property
    def fingerprint(self) -> bytes:
        """The text without white space, hashed (16 bytes): equal for duplicates."""
        return hashlib.sha256("".join(self.text.split()).encode()).digest()[:16]


@dataclass(frozen=True)
class Judge:
    """Everything but duplicates, which need the other answers."""

    detector: Detector
    redactor: Redactor
    min_characters: int
    own_words: tuple[str, ...] = ()
    """The prompts' (``Prompt.own_words``)."""
    policy: Policy | None = None
    """What a licence that the file states must be; a teacher that writes one repeats a file it has read. None: whatever it is."""

    def judge(self, answer: Answer, language: str) -> Verdict:
        """The verdict on one answer to a request for ``language``."""
        parts = _parts(answer, language)
        if isinstance(parts, Verdict):
            return parts
        problem, code = parts
        if self.own_words:
            whole = plain(f"{problem}\n{code}")
            if (repeated := next((words for words in self.own_words if words in whole), None)) is not None:
                return Verdict("repeats the prompt", detail=repeated)
        if len("".join(code.split())) < self.min_characters:
            return Verdict("too short", detail=code)
        if self.policy is not None and (stated := header_license(code)) and (verdict := self.policy.verdict(stated)) != "allowed":
            return Verdict(verdict, detail=stated)
        redacted = self.redactor.redact(with_problem(language, problem, code))
        if redacted.reason is not None:
            return Verdict(redacted.reason)
        text = redacted.text
        if (error := error_in(language, text)) is not None:  # a placeholder can stand where only a number may
            return Verdict("does not parse", detail=error)
        if (item := self.detector.find(text)) is not None:
            return Verdict("contaminated", detail=f"{item.problem} {item.what}")
        return Verdict("", text)


def make_judge(
    decontamination: DecontaminationSettings, redaction: RedactionSettings, min_characters: int, own_words: tuple[str, ...] = (),
    licenses: LicenseSettings | None = None,
) -> Judge:  # fmt: skip
    """The judge of a recipe; ``licenses`` None: the corpus's defaults. Raises SnowError where its benchmarks cannot be read."""
    rules = licenses or LicenseSettings()
    return Judge(Detector.of(decontamination), Redactor(redaction), min_characters, own_words, Policy(rules) if rules.file_level else None)


def text_of(answer: Answer, language: str, redactor: Redactor) -> str:
    """The document of an answer that was judged good before."""
    parts = _parts(answer, language)
    assert not isinstance(parts, Verdict)
    return redactor.redact(with_problem(language, *parts)).text


def _parts(answer: Answer, language: str) -> tuple[str, str] | Verdict:
    """(problem, code), or why there are none."""
    if answer.finish_reason == REFUSED:
        return Verdict("refused by the server", detail=answer.content)
    if answer.finish_reason != "stop":
        return Verdict("not finished", detail=f"finish reason {answer.finish_reason}")
    opening = _opening(answer.content, language)
    if opening is None:
        return Verdict("no code block")
    problem = _problem(answer.content[: opening.start()])
    if len(problem) < _SHORTEST_PROBLEM:
        return Verdict("no problem statement", detail=problem)
    word = opening["word"]
    written = language_of_fence(word) if word else language
    if written is None or LANGUAGES[written].fence != LANGUAGES[language].fence:
        return Verdict("in another language", detail=f"asked for {language}, the block says {word}")
    return problem, _code(answer.content[opening.end() :], opening, language)


def _opening(text: str, language: str) -> re.Match[str] | None:
    """The fence that opens the file: the first that names its language (a problem may show an example in a block of its own), else the first."""
    first, at = None, 0
    while (found := _OPENING.search(text, at)) is not None:
        first = first or found
        if found["word"] and (named := language_of_fence(found["word"])) is not None and LANGUAGES[named].fence == LANGUAGES[language].fence:
            return found
        closing = next((end for end in _CLOSING.finditer(text, found.end()) if len(end[1]) >= len(found["ticks"])), None)
        at = closing.end() if closing else len(text)
    return first


def _code(after: str, opening: re.Match[str], language: str) -> str:
    """The block's contents: to the first closing fence at which they parse, for one may stand in a docstring; to the first of all where none does."""
    closings = [found.start() for found in _CLOSING.finditer(after) if len(found[1]) >= len(opening["ticks"])]
    ends = [*closings[:_CLOSINGS], len(after)]
    indent = len(opening["indent"])
    for end in ends if len(ends) > 1 else ():
        code = _dedented(after[:end], indent)
        if code.strip() and error_in(language, code) is None:
            return code.strip("\n")
    return _dedented(after[: ends[0]], indent).strip("\n")


def _dedented(code: str, indent: int) -> str:
    return re.sub(rf"^ {{1,{indent}}}", "", code, flags=re.MULTILINE) if indent else code


def _problem(before: str) -> str:
    """The statement, without the headings around it."""
    return _LAST_HEADING.sub("", "\n" + _HEADING.sub("", before.strip(), count=1)).strip()


def with_problem(language: str, problem: str, code: str) -> str:
    """The file with its problem in front: Python as a module docstring where it can be one, else as line comments.

    A first line that must stay first (``#!``, ``<?php``) does.
    """
    head = ""
    first, _, rest = code.partition("\n")
    if first.startswith(("#!", "<?php")):
        head, code = first + "\n", rest
    code = code.lstrip("\n").rstrip()
    quotable = '"""' not in problem and "\\" not in problem and not problem.endswith('"')
    if language == PYTHON and quotable and "__future__" not in code:  # future imports tolerate one docstring, and the file may have its own
        return f'{head}"""{problem}\n"""\n\n{code}\n'
    comment = LANGUAGES[language].comment
    commented = "\n".join(f"{comment} {line}".rstrip() for line in problem.splitlines())
    return f"{head}{commented}\n\n{code}\n"
