"""One run over the questions: what the journal has, what is asked, what is kept.

A fixed number of workers take requests from one iterator as they become free. There are no batches: a slow answer delays
nothing but itself, and the number in flight falls only when the requests end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from megatron_snow.artifacts.documents import Document
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress, say
from megatron_snow.synthesis.answers import Judge, text_of
from megatron_snow.synthesis.client import Client, Patience, Request, connect
from megatron_snow.synthesis.journal import Answer, Journal
from megatron_snow.synthesis.questions import Questions
from megatron_snow.synthesis.seeds import Seed
from megatron_snow.synthesis.server import local_server
from megatron_snow.synthesis.settings import SynthesizeSettings
from megatron_snow.synthesis.tally import Tally

REPOSITORY = "synthetic"


class Run:
    """``recall``, ``ask``, ``settle``, then ``documents`` and ``summary``."""

    def __init__(self, settings: SynthesizeSettings, questions: Questions, judge: Judge, journal: Journal, tally: Tally) -> None:
        self._settings, self._questions, self._judge, self._journal = settings, questions, judge, journal
        self.tally = tally
        self._unanswered = 0
        self._bytes: Counter[str] = Counter()

    def recall(self) -> None:
        """Judge the answers that a killed run left."""
        seeds = {request.id: one for one, request in self._questions if request.id in self._journal} if len(self._journal) else {}
        for answer in self._journal.read(iter(seeds)):
            self._count(seeds[answer.id], answer)
        if seeds:
            say(f"  {len(seeds)} answers were in the journal already")

    def ask(self) -> None:
        """Ask what is not answered yet, until a limit is reached.

        Raises SnowError where requests stayed unanswered and the token limit was not reached: what is missing would be missing for good.
        """
        if next(self._open(), None) is None:
            return
        settings = self._settings
        with ExitStack() as stack:
            endpoints, in_flight = settings.endpoints, settings.concurrency
            if settings.local is not None:
                url, _ = stack.enter_context(local_server(settings.local))
                endpoints, in_flight = (url,), settings.local.slots
            if settings.requests is not None:  # what a killed run had is not in the bar: it would spoil the rate and the ETA
                bar = Progress("asking", len(self._questions) - self.tally.answers, "requests")
            else:
                bar = Progress("asking", (settings.tokens or 0) - self.tally.accepted_tokens, "tokens")
            stack.enter_context(bar)
            asyncio.run(self._converse(endpoints, in_flight, bar))

    async def _converse(self, endpoints: tuple[str, ...], in_flight: int, bar: Progress) -> None:
        settings = self._settings
        patience = Patience(settings.timeout, settings.attempts, settings.first_wait)
        key = None if settings.local is not None else settings.api_key_env
        async with connect(endpoints, key, self._questions.sampling, patience, in_flight) as client:
            await client.check()
            now = asyncio.get_running_loop().time
            start, before = now(), self.tally.completion_tokens

            def answered(one: Seed, answer: Answer) -> None:
                self._journal.add(answer)
                earlier = self.tally.accepted_tokens
                self._count(one, answer)
                rate = (self.tally.completion_tokens - before) / max(now() - start, 1e-3)
                speed = f", {rate:.0f} tokens/s" if rate else ""  # a server need not count
                retried = f", {client.retries} tries repeated" if client.retries else ""
                amount = self.tally.accepted_tokens - earlier if settings.requests is None else 1
                bar.advance(max(amount, 0), f"{len(self.tally.good)} good documents{speed}{retried}")

            self._unanswered = await _keep_busy(client, self._open(), len(endpoints) * in_flight, answered)
            if self._unanswered and not self._enough:
                cause = f"; the last failed with: {client.last_failure}" if client.last_failure else ""
                raise SnowError(
                    f"{self._unanswered} requests got no answer in {settings.attempts} tries each{cause}; see to the server and run the same command again: "
                    f"{self._journal.path} keeps the {self.tally.answers} answers there are, and only the rest is asked"
                )

    def _open(self) -> Iterator[tuple[Seed, Request]]:
        """Requests without an answer, as long as the token limit is not reached."""
        for one, request in self._questions:
            if self._enough:
                return
            if request.id not in self._journal:
                yield one, request

    @property
    def _enough(self) -> bool:
        return self._settings.tokens is not None and self.tally.accepted_tokens >= self._settings.tokens

    def _count(self, one: Seed, answer: Answer) -> None:
        self.tally.add(one, answer, self._judge.judge(answer, one.language))

    def settle(self) -> list[tuple[Seed, Request]]:
        """The questions whose answers stay: of duplicates, the first in the order of the requests."""
        seen: set[str] = set()
        kept = []
        for one, request in self._questions:
            fingerprint, _ = self.tally.good.get(request.id, (None, 0))
            if fingerprint in seen:
                (answer,) = self._journal.read(iter([request.id]))
                self.tally.drop("duplicate", one, answer.content, "")
            elif fingerprint is not None:
                seen.add(fingerprint)
                kept.append((one, request))
        self.tally.settle(request.id for _, request in kept)
        return kept

    def documents(self, kept: list[tuple[Seed, Request]]) -> Iterator[Document]:
        """Their documents, sorted by language. The id is the request's, under which the journal has the answer."""
        ordered = sorted(kept, key=lambda pair: pair[0].language)
        answers = self._journal.read(request.id for _, request in ordered)
        for (one, request), answer in zip(ordered, answers, strict=True):
            text = text_of(answer, one.language)
            self._bytes[one.language] += len(text.encode())
            yield Document(
                id=f"{REPOSITORY}/{request.id}", text=text, language=one.language, repository=REPOSITORY, path=request.id, license="",
                source=REPOSITORY, seed_id=one.document_id,
            )  # fmt: skip

    def summary(self, kept: list[tuple[Seed, Request]]) -> dict[str, Any]:
        """The run's part of ``summary.json``; complete once ``documents`` has been iterated."""
        accepted = Counter(one.language for one, _ in kept)
        requests = self.tally.answers + self._unanswered
        ended = "tokens" if self._enough else "requests" if requests == self._settings.requests else "seeds"
        if ended == "seeds":
            say(f"  the seeds ended after {requests} requests (one a document), before the limit; a larger high-quality tier has more")
        languages = {
            name: {"asked": asked, "accepted": accepted[name], "bytes": self._bytes[name]} for name, asked in sorted(self.tally.asked.items())
        }  # fmt: skip
        return {
            "requests": requests, "unanswered": self._unanswered, "accepted": len(kept), "accepted_tokens": self.tally.accepted_tokens,
            "languages": languages, "ended": ended,
        } | self.tally.summary()  # fmt: skip


async def _keep_busy(client: Client, source: Iterator[tuple[Seed, Request]], workers: int, answered: Callable[[Seed, Answer], None]) -> int:
    """Keep ``workers`` requests in flight until ``source`` ends; returns how many got no answer. Raises the first worker's SnowError."""
    unanswered = 0

    async def work(home: int) -> None:
        nonlocal unanswered
        for one, request in source:
            answer = await client.ask(request, home)
            if answer is None:
                unanswered += 1
            else:
                answered(one, answer)

    try:
        async with asyncio.TaskGroup() as group:
            for home in range(workers):
                group.create_task(work(home))
    except BaseExceptionGroup as errors:
        first = next((error for error in errors.exceptions if isinstance(error, SnowError)), None)
        raise (first or errors.exceptions[0]) from errors
    return unanswered
