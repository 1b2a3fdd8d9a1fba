from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.report.html import Markup, join, tag, visible


class _Reader(HTMLParser):
    """What a parser makes of a page: elements and text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(markup: str) -> _Reader:
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    return reader


@given(text=st.text(), attribute=st.text())
def test_any_text_survives_as_text_and_never_becomes_an_element(text: str, attribute: str) -> None:
    read = _read(tag("p", text, title=attribute))
    assert read.elements == [("p", {"title": visible(attribute)})]
    assert read.text == visible(text)


@given(text=st.text())
def test_what_is_written_can_be_encoded(text: str) -> None:
    tag("p", text).encode("utf-8")


def test_markup_is_left_alone_and_everything_else_is_escaped() -> None:
    assert tag("p", Markup("<b>x</b>"), "<i>", 1, None, ["&", tag("br")]) == "<p><b>x</b>&lt;i&gt;1&amp;<br></p>"


def test_attribute_names_and_absent_attributes() -> None:
    assert tag("line", class_="a", stroke_width=2, open=True, title=None, hidden=False) == '<line class="a" stroke-width="2" open></line>'


def test_characters_that_hide_code_are_written_out() -> None:
    # U+202E makes an editor show the rest of the line backwards (CVE-2021-42574); NUL ends some viewers' text.
    assert join("a\u202eb\x00c\u200bd") == "a⟨U+202E⟩b⟨U+0000⟩c⟨U+200B⟩d"
    assert join("tab\tand\nline stay, so does é") == "tab\tand\nline stay, so does é"


def test_a_very_long_text_is_cut() -> None:
    written = tag("p", "<" * 1_000_000, title="&" * 1_000_000)
    assert len(written) < 120_000 and written.endswith(" … cut here</p>")
