"""The filters: rules 1 to 5 below are StarCoder2's (arXiv 2402.19173, section 2.1), which the paper leans on; one is ours.

Each rule is a pure function of what was measured (``signals``) that says whether a file breaks it; ``broken_rule`` asks them in
order and names the first. What was measured is kept as columns (``signal_table``), so that a threshold can be judged without a new run.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import PurePosixPath

from megatron_snow.corpus.native import measure_ascii
from megatron_snow.corpus.settings import MARKUP_LANGUAGES, RuleSettings
from megatron_snow.corpus.signals import Encoded, Lines, Signals, alphabetic_fraction, encoded, lines, literal_lines, says_generated, visible_text

LONG_LINE_LANGUAGES = {"HTML", "JSON", "Markdown", "Roff", "Roff Manpage", "SMT", "TeX", "Text", "XML"}  # StarCoder2, long line filters
ALPHANUMERIC_LANGUAGES = {"Motorola 68K Assembly", "WebAssembly"}  # StarCoder2, alpha filter
DATA_LANGUAGES = {"Text", "JSON", "YAML", "Web Ontology Language", "Graphviz (DOT)"}  # StarCoder2, language-specific filters
_NOT_ASCII = re.compile(r"[^\x00-\x7f]{1,16}")  # short pieces: those seen before are remembered
_DECIMAL = re.compile(r"[^\D\x00-\x7f]")  # a decimal digit outside ASCII
TEXT_STEMS = {"readme", "notes", "todo", "description", "cmakelists"}  # StarCoder2, language-specific filters


def too_many_lines(measured: Lines, rules: RuleSettings) -> bool:
    """Rule 1: over 100,000 lines is data."""
    return measured.count > rules.max_lines


def long_lines(measured: Lines, language: str, rules: RuleSettings) -> bool:
    """Rule 1: mean or longest line too long; for markup only a far longer line counts."""
    if language in LONG_LINE_LANGUAGES:
        return measured.longest > rules.max_markup_line
    return measured.mean > rules.max_mean_line or measured.longest > rules.max_line


def says_it_is_generated(generated: bool) -> bool:
    """Rule 2: the first lines say so. (Linguist's own rule is ``language.is_generated``.)"""
    return generated


def few_letters(alphabetic: float, rules: RuleSettings) -> bool:
    """Rule 3: under a quarter of the characters is alphabetic; in two assembly languages digits count too."""
    return alphabetic < rules.min_alphabetic


def encoded_data(measured: Encoded, rules: RuleSettings) -> bool:
    """Rule 4: one long run of base64, hexadecimal or unicode escapes, or mostly such runs."""
    return measured.longest > rules.max_encoded_run or measured.fraction > rules.max_encoded_fraction


def long_data_file(measured: Lines, language: str, rules: RuleSettings) -> bool:
    """Rule 5: data files of over 512 lines repeat themselves."""
    return language in DATA_LANGUAGES and measured.count > rules.max_data_lines


def table_as_code(count: int, share: float, language: str, rules: RuleSettings) -> bool:
    """Ours: code that is one long literal (code pages, translations, generated lists), which no rule of StarCoder2 catches.

    ``count``: lines that are not blank; ``share``: of them begin with a literal or a bracket.
    """
    return language not in MARKUP_LANGUAGES and count >= rules.table_lines and share > rules.max_literal_lines


def little_visible_text(visible: int, characters: int, language: str, rules: RuleSettings) -> bool:
    """Rule 5: HTML that shows its reader little."""
    return language == "HTML" and (visible < rules.min_html_text or visible < rules.min_html_fraction * characters)


def text_of_no_interest(path: str, language: str) -> bool:
    """Rule 5: plain text is kept only under names that documentation has."""
    name = PurePosixPath(path.lower())
    return language == "Text" and "requirement" not in name.name and name.stem not in TEXT_STEMS


def measure(text: str, language: str, rules: RuleSettings) -> Signals:
    """Everything the rules look at, of one file."""
    digits = language in ALPHANUMERIC_LANGUAGES
    line, alphabetic, runs, (table_lines, table_share) = measure_fast(text, digits)
    return Signals(
        characters=len(text),
        lines=line,
        generated=says_generated(text, rules.generated_lines),
        alphabetic=alphabetic,
        encoded=runs,
        visible=len(visible_text(text)) if language == "HTML" else None,
        table_lines=table_lines,
        table_share=table_share,
    )


def measure_any(text: str, digits: bool) -> tuple[Lines, float, Encoded, tuple[int, float]]:
    """Lines, letters, encoded data and literal lines of any text, by the expressions that define them: what ``measure_fast`` is held to."""
    return lines(text), alphabetic_fraction(text, digits), encoded(text), literal_lines(text)


def measure_fast(text: str, digits: bool) -> tuple[Lines, float, Encoded, tuple[int, float]]:
    """The same through ``csrc/signals.cpp``, which knows ASCII alone: other characters have a stand-in that is of the same kind to the expressions."""
    counted = 0

    def stand_in(match: re.Match[str]) -> str:
        nonlocal counted
        letters, put = _stand_ins(match.group(), digits)
        counted += letters
        return put

    if text.isascii():
        content = text.encode()
    elif _DECIMAL.search(text):
        return measure_any(text, digits)  # no ASCII character is a digit and not hexadecimal
    else:
        content = _NOT_ASCII.sub(stand_in, text).encode()
    count, within, longest, filled, literal, letters, run, runs = measure_ascii(content, digits)
    size = len(text) or 1
    letters += counted
    return Lines(count, within / count if count else 0.0, longest), letters / size, Encoded(run, runs / size), (filled, literal / filled if filled else 0.0)


@lru_cache(maxsize=2**16)  # the same few characters and words come again and again
def _stand_ins(characters: str, digits: bool) -> tuple[int, str]:
    """How many of some characters count as letters, and for each the ASCII one of its kind."""
    letters = sum(map(str.isalnum if digits else str.isalpha, characters))
    return letters, "".join("_" if character.isalnum() else "\x1f" if character.isspace() else "#" for character in characters)


def broken_rule(measured: Signals, path: str, language: str, rules: RuleSettings) -> str | None:
    """The name of the first rule a file breaks, or None: what the funnel counts."""
    if too_many_lines(measured.lines, rules):
        return "over max_lines"
    if long_lines(measured.lines, language, rules):
        return "long lines"
    if says_it_is_generated(measured.generated):
        return "says it is generated"
    if few_letters(measured.alphabetic, rules):
        return "few letters"
    if text_of_no_interest(path, language):
        return "text of no interest"
    if long_data_file(measured.lines, language, rules):
        return "long data file"
    if measured.visible is not None and little_visible_text(measured.visible, measured.characters, language, rules):
        return "little visible text"
    if table_as_code(measured.table_lines, measured.table_share, language, rules):
        return "table as code"
    if encoded_data(measured.encoded, rules):
        return "encoded data"
    return None
