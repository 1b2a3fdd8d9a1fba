"""HTML that is escaped by construction.

``tag`` escapes every plain string it is given and leaves only ``Markup`` alone, and only this module and the style
sheet make ``Markup``: text of the corpus, which is untrusted, has no way into the page as HTML. The page's own
Content-Security-Policy (``page``) forbids scripts and every request besides.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Union

Child = Union["Markup", str, int, float, None, Iterable["Child"]]
Attribute = str | int | float | bool | None

_VOID = frozenset({"br", "hr", "meta", "link", "wbr"})
# Characters that hide what a code sample says: C0 and C1 controls but tab and newline, zero-width characters, and the
# bidirectional controls of CVE-2021-42574 ("Trojan Source"). Lone surrogates cannot be written as UTF-8.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


_MOST = 10_000  # characters of one piece of text (ours: the longest shown on purpose is a sixth of that); keeps a hostile name from filling the page


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """One element. ``class_`` and ``stroke_width`` become ``class`` and ``stroke-width``; None and False leave an attribute out."""
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Children one after the other: Markup as it is, anything else as escaped text, None as nothing."""
    return Markup("".join(_child(child) for child in children))


def visible(text: str) -> str:
    """``text`` with the characters a reader would not see written out as ``⟨U+202E⟩``; what is very long is cut."""
    if len(text) > _MOST:
        text = text[:_MOST] + " … cut here"
    return _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text.replace("\r\n", "\n"))


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return html.escape(visible(str(child)), quote=True)
    return "".join(_child(one) for one in child)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{html.escape(visible(str(value)), quote=True)}"'
