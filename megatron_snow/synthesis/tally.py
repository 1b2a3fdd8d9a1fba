"""What became of the answers: counts by reason and language, with examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from megatron_snow.synthesis.answers import Verdict
from megatron_snow.synthesis.journal import Answer
from megatron_snow.synthesis.seeds import Seed

_EXAMPLES = 3  # of each reason (ours: what a reader looks at)
_SNIPPET = 400  # characters


@dataclass
class Tally:
    """Filled by ``add``, an answer at a time; ``settle`` finds the duplicates."""

    asked: Counter[str] = field(default_factory=Counter)
    """Answers by the language that was asked for."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    accepted_tokens: int = 0
    """Of good answers, duplicates counted once."""
    uncounted: int = 0
    """Answers whose server did not say how long they are."""
    good: dict[str, str] = field(default_factory=dict)
    """Request -> fingerprint of the document that it became."""
    _seen: set[str] = field(default_factory=set)
    drops: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: defaultdict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, seed: Seed, answer: Answer, verdict: Verdict) -> None:
        """Count one answer."""
        self.asked[seed.language] += 1
        self.prompt_tokens += answer.prompt_tokens or 0
        self.completion_tokens += answer.completion_tokens or 0
        self.uncounted += answer.completion_tokens is None and answer.finish_reason != "refused"
        if verdict.reason:
            self.drop(verdict.reason, seed, answer.content, verdict.detail)
            return
        fingerprint = self.good[answer.id] = verdict.fingerprint
        if fingerprint not in self._seen:
            self._seen.add(fingerprint)
            self.accepted_tokens += answer.completion_tokens or 0

    @property
    def answers(self) -> int:
        """All answers counted."""
        return self.asked.total()

    def drop(self, reason: str, seed: Seed, content: str, detail: str) -> None:
        """Count one answer as dropped."""
        self.drops[reason][seed.language] += 1
        if len(self.examples[reason]) < _EXAMPLES:
            self.examples[reason].append({"seed_id": seed.document_id, "language": seed.language, "detail": detail[:_SNIPPET], "snippet": content[:_SNIPPET]})

    def reasons(self) -> dict[str, int]:
        """Drops by reason, most frequent first."""
        return dict(Counter({reason: by.total() for reason, by in self.drops.items()}).most_common())

    def summary(self) -> dict[str, Any]:
        """The JSON-able part of ``summary.json`` that this holds."""
        return {
            "answers": self.answers, "prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens,
            "drops": {reason: dict(sorted(by.items())) for reason, by in sorted(self.drops.items())}, "examples": dict(sorted(self.examples.items())),
        }  # fmt: skip
