"""What came in, what was dropped and why: counted per reason and language, with a few examples of each.

Examples are those with the smallest hash of (reason, id): a sample that does not depend on who saw which document first.
They are redacted when they are taken, so that nothing a filter dropped shows its secrets in a summary.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from megatron_snow.corpus.dropped import Dropped
from megatron_snow.corpus.samples import TEXT, Sample, Samples
from megatron_snow.corpus.samples import mark as mark_of

EXAMPLES = 4  # of each reason (ours: enough to judge a rule by in the report)
SNIPPET = 240  # characters of an example's text (ours)


class Funnel:
    """Counters of one task; tasks' funnels add up to the same numbers and examples in any order."""

    def __init__(self, shown: Callable[[str], str] = str, languages: Iterable[str] = ()) -> None:
        """``shown``: what makes a text fit to be shown (``redaction.Redactor.shown``); with ``add`` alone none is needed.

        ``languages``: those whose samples are told apart.
        """
        self.shown = shown
        self.samples = Samples(frozenset(languages))
        self.documents_in = 0
        self.drops: dict[str, Counter[str]] = {}
        self.matches: Counter[str] = Counter()
        self.redactions: dict[str, Counter[str]] = {}
        self.redacted_kinds: Counter[str] = Counter()
        self.refused_licenses: Counter[str] = Counter()
        self.left_out: dict[str, Counter[str]] = {}
        """Source -> what its files were left out for before they counted as documents."""
        self.taken_down: Counter[str] = Counter()
        """Name on the take-down list -> files of it that were met."""
        self._examples: dict[str, list[tuple[str, str, str]]] = {}
        self.dropped_rows: list[Dropped] = []
        """Every drop of this funnel by name; what ``add`` brings is not in it."""
        self.match_rows: list[dict[str, Any]] = []
        """Every benchmark item found; what ``add`` brings is not in it."""

    def enter(self) -> None:
        """One document, or row that should have been one, was read."""
        self.documents_in += 1

    def drop(self, reason: str, language: str, identifier: str, text: str | Callable[[], str] = "", of: str = "") -> None:
        """One document is dropped for ``reason``; ``text``, or what makes it, shows why (the document, or what is wrong). ``of``: which stays for it."""
        shown = self.shown(identifier)
        self.dropped_rows.append(Dropped(id=shown.encode(errors="replace").decode(), reason=reason, language=language or "unknown", of=of))
        self.drops.setdefault(reason, Counter())[language or "unknown"] += 1
        mark = hashlib.sha256(f"{reason}\0{identifier}".encode(errors="replace")).hexdigest()
        kept = self._examples.get(reason, [])
        example = len(kept) < EXAMPLES or mark <= kept[-1][0]
        language = language or "unknown"
        sample = self.samples.wants("dropped", reason, language, mark)
        seen = self.shown(text if isinstance(text, str) else text()) if example or sample else ""
        if example:
            self._keep_examples(reason, [(mark, shown, seen[:SNIPPET])])
        if sample:
            self.samples.add(mark, Sample(kind="dropped", reason=reason, language=language, id=shown, repository="", path="", license="", text=seen[:TEXT]))
        self.samples.forget(identifier, language)

    def keep(self, identifier: str, metadata: Mapping[str, Any], text: str) -> None:
        """One document passed every filter; ``text`` is redacted already. Duplicates among those kept are dropped later."""
        order, language = mark_of("kept", identifier), metadata["language"]
        if self.samples.wants("kept", "", language, order):
            shown = {name: self.shown(metadata[name]) for name in ("repository", "path", "license")}
            self.samples.add(order, Sample(kind="kept", reason="", language=language, id=identifier, text=self.shown(text)[:TEXT], **shown))  # type: ignore[typeddict-item]

    def match(self, item: str, row: dict[str, Any]) -> None:
        """A benchmark's ``item`` was found in a document; ``row``: which, where and how (``decontamination.Match.row``)."""
        self.matches[item] += 1
        self.match_rows.append(row)

    def redact(self, language: str, found: Counter[tuple[str, str]]) -> None:
        """Placeholders were put into a document; ``found``: (placeholder, kind) -> how many."""
        for (placeholder, kind), count in found.items():
            self.redactions.setdefault(placeholder, Counter())[language or "unknown"] += count
            self.redacted_kinds[kind] += count

    def refuse(self, license_: str) -> None:
        """A document is dropped for its licence."""
        self.refused_licenses[license_ or "none stated"] += 1

    def leave_out(self, source: str, what: str) -> None:
        """A file of ``source`` is no document."""
        self.left_out.setdefault(source, Counter())[what] += 1

    def add(self, other: dict[str, Any]) -> None:
        """Add what another funnel's ``dump`` holds."""
        self.documents_in += other["in"]
        self.matches.update(other["matches"])
        self.redacted_kinds.update(other["redacted_kinds"])
        self.refused_licenses.update(other["refused_licenses"])
        self.taken_down.update(other["taken_down"])
        self.samples.merge(other["samples"])
        for source, counts in other["left_out"].items():
            self.left_out.setdefault(source, Counter()).update(counts)
        for placeholder, languages in other["redactions"].items():
            self.redactions.setdefault(placeholder, Counter()).update(languages)
        for reason, languages in other["drops"].items():
            self.drops.setdefault(reason, Counter()).update(languages)
            self._keep_examples(reason, [(mark, identifier, text) for mark, identifier, text in other["examples"].get(reason, [])])

    def dump(self) -> dict[str, Any]:
        """Everything, JSON-able, for ``add``."""
        drops = {reason: dict(counts) for reason, counts in self.drops.items()}
        redactions = {placeholder: dict(counts) for placeholder, counts in self.redactions.items()}
        return {
            "in": self.documents_in,
            "drops": drops,
            "examples": self._examples,
            "matches": dict(self.matches),
            "redactions": redactions,
            "redacted_kinds": dict(self.redacted_kinds),
            "refused_licenses": dict(self.refused_licenses),
            "taken_down": dict(self.taken_down),
            "samples": self.samples.dump(),
            "left_out": {source: dict(counts) for source, counts in self.left_out.items()},
        }

    @property
    def dropped(self) -> int:
        """All drops."""
        return sum(counts.total() for counts in self.drops.values())

    def summary(self) -> dict[str, Any]:
        """The funnel as the report shows it; ``in`` is always ``kept`` plus the sum of ``drops``."""
        return {
            "in": self.documents_in,
            "kept": self.documents_in - self.dropped,
            "drops": {reason: dict(sorted(counts.items())) for reason, counts in sorted(self.drops.items())},
            "examples": {reason: [{"id": identifier, "snippet": text} for _, identifier, text in shown] for reason, shown in sorted(self._examples.items())},
            "redactions": {placeholder: dict(sorted(counts.items())) for placeholder, counts in sorted(self.redactions.items())},
            "redacted_kinds": dict(self.redacted_kinds.most_common()),
            "refused_licenses": dict(self.refused_licenses.most_common()),
        }

    def _keep_examples(self, reason: str, more: list[tuple[str, str, str]]) -> None:
        self._examples[reason] = sorted(self._examples.get(reason, []) + more)[:EXAMPLES]
