"""Licences told from texts: a repository's licence files, and what a source file says of itself at its top.

The texts are told by licenseclassifier (a port of Google's licensecheck: it reports nothing rather than something wrong).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePosixPath

UNKNOWN = "LicenseRef-unknown"
"""Stated, but not told which: not the same as none stated."""
_LICENSE_FILE = re.compile(r"(?i)(?:[a-z0-9.]+[-_])?(?:un)?licen[sc]es?(?:[-_. ].*)?|copying(?:[-_. ].*)?|copyright(?:\.txt|\.md)?")
_NOT_TEXT = (".py", ".pyi", ".js", ".ts", ".go", ".rs", ".c", ".h", ".java", ".rb", ".json", ".yml", ".yaml", ".html", ".xml", ".tmpl", ".template")
_ALTERNATIVE = re.compile(r"(?i)(?:licen[sc]e|copying)[-_.]?(?:mit|apache(?:-2\.0|2)?|bsd|unlicense|zlib|mpl(?:-2\.0)?|gpl.*|boost)(?:\.txt|\.md)?")
_MAX_TEXT = 100_000  # characters of a licence file that are read (ours: the GPL has 35,000; longer ones are lists of bundled licences)
_HEAD = 6_000  # characters at the top of a source file (ours: the MIT licence takes 1,100, BSD's three clauses 1,500, in comments more)
_SAYS = tuple(  # words that speak of licences, in lower case, each behind a literal that is looked for first: one expression of all takes 0.2 ms a file
    (literal, re.compile(form))
    for literal, form in (
        ("licen", r"licen[sc]e"),
        ("gpl", r"\b[al]?gpl\b"),
        ("redistribution", r"redistribution and use"),
        ("permission", r"permission is hereby granted|permission to use, copy"),
        ("public domain", r"public domain"),
    )
)
_SPDX = re.compile(r"SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+:() /-]+?)[ \t]*(?:\*/|-->|[*\"'#;]|$)", re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*(?:///?|/?\*+/?|#+!?|;+|--+|%+|<!--|\(\*|\"{3}|'{3}|dnl\b|REM\b)?[ \t]?", re.MULTILINE)
_VARYING = re.compile(r"(?i).*(?:copyright.*(?:\d{4}|\(c\)|©)|\(c\) ?\d{4}|©)")  # a line
_RIGHTS = ("copyright", "(c)", "©")  # one of them is in every such line
_MEANT = re.compile(r"(?i)(?:licen[sc]ed|released|distributed|available|provided|governed|subject to|under the terms|licen[sc]e:|under the)[^.]*\Z")
_NAMED = (  # one-line statements; "a BSD-style license" and the like name none, and the repository's is taken
    ("MIT", r"(?:the )?MIT"),
    ("Apache-2.0", r"(?:the )?Apache(?: Software)?(?: License)?,? ?(?:version |v)?2(?:\.0)?"),
    ("ISC", r"(?:the )?ISC"),
    ("MPL-2.0", r"(?:the )?(?:MPL|Mozilla Public License),? ?(?:version |v)?2\.0"),
    ("AGPL-3.0-only", r"(?:the )?(?:GNU )?(?:AGPL|Affero (?:General Public License|GPL)),? ?(?:version |v)?3"),
    ("LGPL-2.1-only", r"(?:the )?(?:GNU )?(?:LGPL|Lesser (?:General Public License|GPL)),? ?(?:version |v)?2\.1"),
    ("LGPL-3.0-only", r"(?:the )?(?:GNU )?(?:LGPL|Lesser (?:General Public License|GPL)),? ?(?:version |v)?3"),
    ("GPL-2.0-only", r"(?:the )?(?:GNU )?(?:GPL|General Public License),? ?(?:version |v)?2"),
    ("GPL-3.0-only", r"(?:the )?(?:GNU )?(?:GPL|General Public License),? ?(?:version |v)?3"),
)
_BY_NAME = {name.lower() for name, _ in _NAMED} | {
    "bsd-2-clause",
    "bsd-3-clause",
    "gpl-2.0-or-later",
    "gpl-3.0-or-later",
    "lgpl-2.1-or-later",
    "unlicense",
    "zlib",
    "bsl-1.0",
}
_STATEMENT = re.compile(
    r"(?i)(?:licen[sc]ed|released|distributed|made available|provided)\s+under\s+(?:the\s+terms\s+of\s+)?(?:"
    + "|".join(f"(?P<n{index}>{form})" for index, (_, form) in enumerate(_NAMED))
    + r")\b|(?m:^\s*licen[sc]e:\s*(?P<spdx>[A-Za-z0-9.+-]{2,40})\s*$)"
)
_LEAD = 300  # characters before the first word of a licence that still belong to it: "This program is free software; you can ..."
_APART = 1_200  # characters between such words above which they speak of something else (ours: longer than any gap in the notices of MIT, BSD, GPL)
_DISCLAIMER = 1_000  # characters of the disclaimers that end the MIT and BSD texts
_WHOLE = 100  # characters of a match that is a notice by itself; a URL is shorter


def is_license_file(path: str) -> bool:
    """Whether a file in a repository's root folder, or in its ``LICENSES`` (REUSE), is there to state its licence."""
    parts = PurePosixPath(path).parts
    if len(parts) == 2 and parts[0].lower() in ("licenses", "license", "licence"):
        return True
    return len(parts) == 1 and _LICENSE_FILE.fullmatch(parts[0]) is not None and not parts[0].lower().endswith(_NOT_TEXT)


def files_license(files: Iterable[tuple[str, str]]) -> str:
    """SPDX expression of a repository's licence files, given as (name, text); "" where there is none, ``UNKNOWN`` where one is not told.

    One file that holds several licences, and several files, are all in force (AND), but for files called after a licence
    (``LICENSE-MIT`` beside ``LICENSE-APACHE``: Rust's way to offer a choice, OR), and for the LGPL, which comes with the GPL it adds to.
    """
    every = [(name, text_licenses(text[:_MAX_TEXT]) or [UNKNOWN]) for name, text in sorted(files)]
    choices = [(name, found) for name, found in every if _ALTERNATIVE.fullmatch(PurePosixPath(name).name)]
    if len(choices) > 1:
        told = [" AND ".join(found) for _, found in choices]
        return " OR ".join(f"({one})" if " AND " in one else one for one in dict.fromkeys(told))
    stated = list(dict.fromkeys(one for _, found in every for one in found))
    if any(one.startswith("LGPL") for one in stated):
        stated = [one for one in stated if not one.startswith("GPL")]
    known = [one for one in stated if one != UNKNOWN]
    return " AND ".join(known) or " AND ".join(stated)


@lru_cache(maxsize=4096)
def text_licenses(text: str) -> list[str]:
    """SPDX identifiers of the licences a text holds, in its order, each once."""
    import licenseclassifier

    return list(dict.fromkeys(match.id for match in licenseclassifier.identify_license(text)))


def header_license(text: str) -> str:
    """SPDX expression a source file states at its top: by an ``SPDX-License-Identifier``, else by a licence's text or notice; "" where none."""
    head = text[:_HEAD]
    if "SPDX-License-Identifier" in head and (stated := [" ".join(one.split()) for one in _SPDX.findall(head)]):
        return " AND ".join(f"({one})" if " OR " in one else one for one in dict.fromkeys(stated)) if len(stated) > 1 else stated[0]
    return " AND ".join(_notice_licenses(_notice(head)))


def _notice(head: str) -> str:
    """The part of a file's top that speaks of licences, without comment marks and what differs from file to file: a repository's files share it."""
    if not _mentions(head):
        return ""
    plain = _without_rights(_COMMENT.sub("", head))
    spans = _mentions(plain)
    if not spans:
        return ""
    last = 0
    while last + 1 < len(spans) and spans[last + 1][0] - spans[last][1] <= _APART:
        last += 1
    start, end = spans[0][0], spans[last][1]
    whole = "hereby granted" in plain or "edistribution and use" in plain  # MIT's and BSD's texts go on after the last such word
    end = plain.find("\n", end + (_DISCLAIMER if whole else 0))
    return plain[max(0, start - _LEAD) : end if end >= 0 else len(plain)]


def _without_rights(text: str) -> str:
    """The text with the lines emptied that say whose it is since when."""
    lower, lines = _lower(text), set()
    for word in _RIGHTS:
        at = lower.find(word)
        while at >= 0:
            start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
            end = end if end >= 0 else len(text)
            if _VARYING.match(text, start, end):
                lines.add((start, end))
            at = lower.find(word, end)
    for start, end in sorted(lines, reverse=True):
        text = text[:start] + text[end:]
    return text


def _lower(text: str) -> str:
    """In lower case, every character in its place."""
    return text.replace("\u0130", "i").lower()  # the one letter that two stand for in lower case


def _mentions(text: str) -> list[tuple[int, int]]:
    """Where words that speak of licences begin and end, in order."""
    lower = _lower(text)
    return sorted(match.span() for literal, form in _SAYS if literal in lower for match in form.finditer(lower))


@lru_cache(maxsize=4096)
def _notice_licenses(notice: str) -> tuple[str, ...]:
    """What a notice states: whole texts and notices, and shorter matches (a URL) where the words before say that they are meant."""
    if not notice:
        return ()
    import licenseclassifier

    found = licenseclassifier.identify_license(notice, coverage_threshold=0)
    told = tuple(dict.fromkeys(m.id for m in found if m.end - m.start >= _WHOLE or _MEANT.search(notice, max(0, m.start - 120), m.start)))
    if told or (statement := _STATEMENT.search(notice)) is None:
        return told
    if statement["spdx"]:
        return (statement["spdx"],) if statement["spdx"].lower() in _BY_NAME else ()
    return (next(name for index, (name, _) in enumerate(_NAMED) if statement[f"n{index}"]),)
