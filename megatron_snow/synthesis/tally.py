"""What became of the answers: counts by reason and language, with examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from megatron_snow.corpus.redaction import Redactor
from megatron_snow.synthesis.journal import Answer
from megatron_snow.synthesis.judging import Judged
from megatron_snow.synthesis.seeds import Seed

_EXAMPLES = 3  # of each reason (ours: what a reader looks at)
_SNIPPET = 400  # characters


@dataclass
class Tally:
    """Filled by ``add``, an answer at a time; ``settle`` ends it."""

    redactor: Redactor
    """Keeps credentials and personal data out of the examples."""
    asked: Counter[str] = field(default_factory=Counter)
    """Answers by the language that was asked for."""
    prompt_tokens: int = 0
    """As the servers count; those that do not say add nothing. So does ``completion_tokens``."""
    completion_tokens: int = 0
    accepted_tokens: int = 0
    """Of good documents, as the recipe's tokenizer counts. Until ``settle``, of duplicates (which differ in white space) the shortest counts:
    whatever order the answers come in, the sum is the same and no more than what stays."""
    good: dict[str, Judged] = field(default_factory=dict)
    """Request -> what the document that it became is compared by."""
    _shortest: dict[bytes, int] = field(default_factory=dict)
    drops: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: defaultdict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, seed: Seed, answer: Answer, judged: Judged) -> None:
        """Count one answer."""
        self.asked[seed.language] += 1
        self.prompt_tokens += answer.prompt_tokens or 0
        self.completion_tokens += answer.completion_tokens or 0
        if judged.reason:
            self.drop(judged.reason, seed, answer.content, judged.detail)
            return
        self.good[answer.id] = judged
        before = self._shortest.get(judged.fingerprint)
        shortest = self._shortest[judged.fingerprint] = judged.tokens if before is None else min(before, judged.tokens)
        self.accepted_tokens += shortest - (before or 0)

    def settle(self, kept: Iterable[str]) -> None:
        """Count exactly the documents of the requests that stay."""
        self.accepted_tokens = sum(self.good[request].tokens for request in kept)

    @property
    def answers(self) -> int:
        """All answers counted."""
        return self.asked.total()

    def drop(self, reason: str, seed: Seed, content: str, detail: str) -> None:
        """Count one answer as dropped."""
        self.drops[reason][seed.language] += 1
        own = self.examples[reason]
        if len(own) < _EXAMPLES or seed.document_id < own[-1]["seed_id"]:  # the same ones, whatever order the answers come in
            shown = {"detail": self.redactor.shown(detail)[:_SNIPPET], "snippet": self.redactor.shown(content)[:_SNIPPET]}
            own.append({"seed_id": seed.document_id, "language": seed.language} | shown)
            own.sort(key=lambda example: example["seed_id"])
            del own[_EXAMPLES:]

    def reasons(self) -> dict[str, int]:
        """Drops by reason, most frequent first."""
        return dict(Counter({reason: by.total() for reason, by in self.drops.items()}).most_common())

    def summary(self) -> dict[str, Any]:
        """The JSON-able part of ``summary.json`` that this holds."""
        return {
            "answers": self.answers, "prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens,
            "drops": {reason: dict(sorted(by.items())) for reason, by in sorted(self.drops.items())}, "examples": dict(sorted(self.examples.items())),
        }  # fmt: skip
