"""Spans: overlaps become one, replacement keeps the rest byte for byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.corpus.spans import EMAIL, KEY, NAME, PLACEHOLDERS, Span, merged, replaced


def test_overlapping_spans_are_called_after_the_gravest() -> None:
    spans = [Span(4, 9, EMAIL, "e-mail"), Span(0, 5, NAME, "note"), Span(7, 12, KEY, "token"), Span(12, 13, NAME, "note")]
    assert merged(spans) == [Span(0, 12, KEY, "token"), Span(12, 13, NAME, "note")]


@given(st.binary(max_size=60), st.lists(st.tuples(st.integers(0, 59), st.integers(1, 20), st.sampled_from(PLACEHOLDERS)), max_size=8))
def test_what_no_span_covers_stays(content: bytes, places: list[tuple[int, int, str]]) -> None:
    spans = [Span(start, min(start + length, len(content)), placeholder, "k") for start, length, placeholder in places if start < len(content)]
    covered = {index for span in spans for index in range(span.start, span.end)}
    left = replaced(content, merged(spans))
    for placeholder in {span.placeholder for span in spans}:
        left = left.replace(placeholder.encode(), b"") if placeholder.encode() not in content else left
    if not any(placeholder.encode() in content for placeholder in PLACEHOLDERS):
        assert left == bytes(byte for index, byte in enumerate(content) if index not in covered)
