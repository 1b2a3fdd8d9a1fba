"""Places in a text that must not reach a tier, and their replacement by typed placeholders.

Placeholders are those of StarCoder's redaction (arXiv 2305.06161, section 4), so that models see one vocabulary of them; ``<IP_ADDRESS>`` is
ours: StarCoder puts one of five made-up addresses there, which a reader cannot tell from real ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

KEY, PASSWORD, EMAIL, ADDRESS, NAME = PLACEHOLDERS = ("<KEY>", "<PASSWORD>", "<EMAIL>", "<IP_ADDRESS>", "<NAME>")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Bytes ``start`` to ``end`` of a text's UTF-8, and what stands there."""

    start: int
    end: int
    placeholder: str
    kind: str
    """The detector's name for it: ``github-pat``, ``e-mail``, ..."""


def merged(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that overlap made one, which is called after the gravest (a key in an e-mail address is a key)."""
    result: list[Span] = []
    for span in sorted(spans):
        if result and span.start < result[-1].end:
            last = result[-1]
            gravest = min(last, span, key=lambda one: PLACEHOLDERS.index(one.placeholder))
            result[-1] = Span(last.start, max(last.end, span.end), gravest.placeholder, gravest.kind)
        else:
            result.append(span)
    return result


def replaced(content: bytes, spans: Iterable[Span]) -> bytes:
    """``content`` with each of the spans, which are in order and apart, replaced by its placeholder."""
    parts, position = [], 0
    for span in spans:
        parts += [content[position : span.start], span.placeholder.encode()]
        position = span.end
    return b"".join([*parts, content[position:]])
