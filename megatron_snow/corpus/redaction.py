"""Keeps credentials and personal data out of the tiers, and out of everything that shows parts of documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from megatron_snow.corpus.personal import email_addresses, ip_addresses, user_names
from megatron_snow.corpus.secrets import secrets
from megatron_snow.corpus.settings import RedactionSettings
from megatron_snow.corpus.spans import Span, merged, replaced

_SHOWN = 64 * 2**10  # characters of a document that are searched before a part of them is shown (ours: far more than is ever shown)
_DETECTORS: dict[str, tuple[Callable[[bytes], Iterator[Span]], str]] = {
    "secrets": (secrets, "holds a secret"),
    "email_addresses": (email_addresses, "holds an e-mail address"),
    "ip_addresses": (ip_addresses, "holds an IP address"),
    "user_names": (user_names, "holds a user name"),
}


@dataclass(frozen=True, slots=True)
class Redacted:
    """A text as it may be kept, and what was found in it."""

    text: str
    found: Counter[tuple[str, str]]
    """(placeholder, kind) -> how many were replaced."""
    reason: str | None
    """Why the document is to be dropped, where the settings say so of what was found."""


class Redactor:
    """Finds and replaces what the settings name. Holds nothing that cannot be copied to another process."""

    def __init__(self, settings: RedactionSettings) -> None:
        self._settings = settings

    def redact(self, text: str) -> Redacted:
        """The whole of a document."""
        content = text.encode()
        spans: list[Span] = []
        reason = None
        for name, (detect, dropped) in _DETECTORS.items():
            wanted = getattr(self._settings, name)
            found = [] if wanted == "off" else list(detect(content))
            spans += found
            if found and wanted == "drop":
                reason = reason or dropped
        if not spans:
            return Redacted(text, Counter(), None)
        spans = merged(spans)
        return Redacted(replaced(content, spans).decode(), Counter((span.placeholder, span.kind) for span in spans), reason)

    def shown(self, text: str) -> str:
        """The beginning of a document, dropped or kept, fit for a summary, a report or a log: redacted whatever the settings say."""
        content = text[:_SHOWN].encode(errors="replace")
        spans = merged(span for detect, _ in _DETECTORS.values() for span in detect(content))
        return replaced(content, spans).decode(errors="replace")
