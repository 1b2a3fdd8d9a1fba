"""Which language a file is in, by GitHub linguist's rules (enry: name, extension, then content where those are ambiguous).

enry is a Go library: it is imported where it is used, so that processes that never ask do not start Go's runtime.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.settings import MARKUP_LANGUAGES, PAPER_LANGUAGES

_PYTHON_VENDORED = {"_vendor", "_vendored", "vendored"}  # ours: pip, setuptools and openai carry older copies of other distributions there


# Linguist's heuristics and classifier look at 50 kB; its editor settings at the last lines too. enry takes 7 s for one line of 9 MB.
_CONSIDERED, _TAIL = 50 * 2**10, 2**10


def unknown_language(languages: Iterable[str]) -> str | None:
    """What is wrong with the first name that linguist does not know, and what to do; None where it knows all."""
    import enry

    for name in languages:
        if enry.get_language_type(name) == "unknown":
            near = difflib.get_close_matches(name, PAPER_LANGUAGES + MARKUP_LANGUAGES, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else "use linguist's names, as GitHub shows them"
            return f"no language is called {name!r}; {hint}"
    return None


def check_languages(languages: Iterable[str]) -> None:
    """Raises SnowError on a name linguist does not know."""
    if wrong := unknown_language(languages):
        raise SnowError(f"corpus.languages: {wrong}")


class Names:
    """Tells from a file's name alone whether it may hold one of ``languages``: what cannot is never opened."""

    def __init__(self, languages: Iterable[str], excluded: tuple[str, ...] = ()) -> None:
        import enry

        self._languages = set(languages)
        self._excluded = excluded
        self._extensions = {extension: language for language in sorted(self._languages, reverse=True) for extension in enry.get_language_extensions(language)}
        self._guess = enry.get_languages

    def guess(self, path: str) -> str | None:
        """The likeliest wanted language, "" for a name that says nothing (a script may have one), None for a name of something else."""
        name = PurePosixPath(path).name
        if name.lower().endswith(self._excluded):
            return None
        for language in self._guess(name, b""):
            if language in self._languages:
                return language
        suffixes = PurePosixPath(name.lower()).suffixes
        for start in range(len(suffixes)):
            if language := self._extensions.get("".join(suffixes[start:])):
                return str(language)
        return None if suffixes else ""


def detect(path: str, content: bytes) -> str:
    """Linguist's name for the language of a file, "" where it has none."""
    import enry

    if len(content) > _CONSIDERED:
        content = content[: _CONSIDERED - _TAIL] + b"\n" + content[-_TAIL:]
    return str(enry.get_language(path, content))


# How a file begins that is something else than its name says, and the languages that begin so rightfully. Ours: where the extension has one
# language linguist goes by it alone; what servers answer instead of a file, and documents saved under a source file's name, are what is met.
_BEGINNINGS = (
    (re.compile(r"(?i)<!doctype html|<html[\s>]"), {"HTML", "PHP", "Markdown", "XML", "Text", "JavaScript", "reStructuredText"}),
    (re.compile(r"<\?xml[\s]"), {"XML", "HTML", "PHP", "SVG", "Text", "Markdown", "TeX"}),
    (re.compile(r"\{\s*\"(?:cells|nbformat|metadata)\"\s*:"), {"JSON", "Jupyter Notebook", "Text", "Markdown", "YAML"}),
    (re.compile(r"%PDF-\d|%!PS-Adobe|\{\\rtf\d"), {"TeX", "Text", "PostScript"}),
    (re.compile(r"-----BEGIN [A-Z ]+-----"), {"Text", "Markdown"}),
    (re.compile(r"diff --git a/|Index: \S+\n={60,}"), {"Text", "Diff", "Markdown"}),
)


_ANY_INTERPRETER = {"Shell", "JavaScript"}  # scripts of other languages begin as shell scripts that call their interpreter; node runs TypeScript too


def holds_another(language: str, text: str) -> bool:
    """Whether a file begins as no file of its language does: an error page named ``.py``, a PDF named ``.c``, another language's ``#!`` line."""
    if text.startswith("#!"):
        import enry

        interpreted = enry.get_language_by_shebang(text[:200].encode(errors="replace"))
        return bool(interpreted.safe and interpreted.language != language and interpreted.language not in _ANY_INTERPRETER)
    head = text[:200].lstrip("\ufeff \t\r\n")
    return any(beginning.match(head) and language not in rightful for beginning, rightful in _BEGINNINGS)


def is_vendored(path: str) -> bool:
    """Whether the path is one linguist, or Python's habit, marks as a copy of somebody else's code."""
    import enry

    return bool(enry.is_vendor(path)) or not _PYTHON_VENDORED.isdisjoint(path.split("/")[:-1])


def is_generated(path: str, content: bytes) -> bool:
    """Whether linguist takes the file for a generator's output."""
    import enry

    return bool(enry.is_generated(path, content))
