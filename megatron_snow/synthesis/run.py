"""One run over the questions: what the journal has, what is asked, what is kept.

Requests are taken from one iterator as places at the endpoints become free (``client.Client.ask_all``). There are no batches: a slow
answer delays nothing but itself, and the number in flight falls only when the requests end.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.documents import Document
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress, say, track
from megatron_snow.corpus.redaction import Redactor
from megatron_snow.synthesis.answers import text_of
from megatron_snow.synthesis.checks import PASSED, RAN, Program, kinds, lint, per_100_lines, run_programs
from megatron_snow.synthesis.client import Patience, connect
from megatron_snow.synthesis.journal import FAILED, Answer, Journal
from megatron_snow.synthesis.judging import Brief, Judged, Judges
from megatron_snow.synthesis.questions import Questions
from megatron_snow.synthesis.repeats import exact_repeats, near_repeats
from megatron_snow.synthesis.seeds import Seed
from megatron_snow.synthesis.server import local_server
from megatron_snow.synthesis.settings import EndpointSettings, SynthesizeSettings
from megatron_snow.synthesis.spread import summary
from megatron_snow.synthesis.syntax import LANGUAGES, PYTHON
from megatron_snow.synthesis.tally import Tally
from megatron_snow.synthesis.wire import Request

REPOSITORY = "synthetic"
_FEW = 128  # requests in flight up to which answers are judged in place (ours: some 100 answers a second, 3 ms each)
_MOST_JUDGES = 16  # ours: 4,000 answers a second
_BACKLOG = 256  # answers that may wait to be judged while a token limit is watched, or as many as are in flight (ours: what it can be overshot by)
_FAILED_IN_A_ROW = 16  # ours: so many requests without one answer in between are the server's trouble


class Run:
    """``recall``, ``ask``, ``settle``, then ``documents`` and ``summary``."""

    def __init__(self, settings: SynthesizeSettings, questions: Questions, brief: Brief, journal: Journal) -> None:
        self._settings, self._questions, self._brief, self._journal = settings, questions, brief, journal
        self._redactor = Redactor(brief.redaction)
        self.tally = Tally(self._redactor)
        self.verified: dict[str, str] | None = None
        """Request -> how its program ended, where programs are run."""
        self._lint: dict[str, Any] | None = None
        self._failed = self._failed_in_a_row = 0
        self._last_failure = ""
        self._bytes: Counter[str] = Counter()

    def recall(self, published: Sequence[Path], aside: Sequence[Path]) -> None:
        """Judge the answers that a killed run left, and those of earlier journals to the same questions.

        So another threshold or benchmark costs no answer: what was asked with the same prompt, sampling and seed is not asked again. A journal
        that was put ``aside`` is deleted once this one has all its answers.
        """
        asked = {request.id for _, request in self._questions} if (*published, *aside) else set()
        for earlier in (*published, *aside):
            taken, left = self._journal.adopt(earlier, asked.__contains__)
            if taken:
                say(f"  {taken} answers to the same requests are taken over from {earlier}")
            if earlier in aside and not left:
                self._journal.sync()
                earlier.unlink()
        if not len(self._journal):
            return
        seeds = {request.id: one for one, request in self._questions if request.id in self._journal}
        answers = track(self._journal.read(iter(seeds)), "judging the journal's answers", len(seeds), "answers") if len(seeds) > _BACKLOG else None
        with Judges(self._brief, self._processes(), self._count) as judges:
            for answer in answers or self._journal.read(iter(seeds)):
                judges.submit(seeds[answer.id], answer, seeds[answer.id].language)
                judges.finish(_BACKLOG)
            judges.finish()
        if seeds:
            say(f"  {len(seeds)} answers were in the journal already")

    def ask(self) -> None:
        """Ask what is not answered yet, until a limit is reached.

        Raises SnowError where more requests failed for good than ``max_failed`` allows and the token limit was not reached.
        """
        if next(self._open(), None) is not None:
            settings = self._settings
            with ExitStack() as stack:
                endpoints, in_flight, key = settings.endpoints, settings.concurrency, settings.api_key_env
                if settings.local is not None:
                    url, _ = stack.enter_context(local_server(settings.local))
                    endpoints, in_flight, key = (EndpointSettings(url=url),), settings.local.slots, None
                if settings.requests is not None:  # what a killed run had is not in the bar: it would spoil the rate and the ETA
                    bar = Progress("asking", len(self._questions) - self.tally.answers, "requests")
                else:
                    bar = Progress("asking", (settings.tokens or 0) - self.tally.accepted_tokens, "tokens")
                stack.enter_context(bar)
                asyncio.run(self._converse(endpoints, key, in_flight, bar))
        self._failed = sum(self._journal.failed(request.id) for _, request in self._questions)
        share = self._failed / max(1, self.tally.answers + self._failed)
        if share > self._settings.max_failed and not self._enough:
            raise SnowError(
                f"{self._failed} requests failed for good, {100 * share:.3g} % of those asked; synthesize.max_failed allows "
                f"{100 * self._settings.max_failed:g} %{self._cause()}; {self._advice()}"
            )

    async def _converse(self, endpoints: tuple[EndpointSettings, ...], key: str | None, in_flight: int, bar: Progress) -> None:
        settings = self._settings
        patience = Patience(settings.timeout, settings.attempts, settings.first_wait)
        sampling = self._questions.sampling
        async with connect(endpoints, key, sampling, patience, in_flight) as client:
            await client.check()
            now = asyncio.get_running_loop().time
            start, before = now(), self.tally.completion_tokens

            def judged(one: Seed, answer: Answer, verdict: Judged) -> None:
                earlier = self.tally.accepted_tokens
                self._count(one, answer, verdict)
                rate = (self.tally.completion_tokens - before) / max(now() - start, 1e-3)
                speed = f", {rate:.0f} tokens/s" if rate else ""  # a server need not count
                retried = f", {client.retries} tries repeated" if client.retries else ""
                spent = f", {self._spent:.2f} spent" if self._spent else ""
                amount = self.tally.accepted_tokens - earlier if settings.requests is None else 1
                bar.advance(max(amount, 0), f"{len(self.tally.good)} good documents, {client.in_flight} in flight{speed}{spent}{retried}")

            with Judges(self._brief, self._processes(sum(one.concurrency or in_flight for one in endpoints)), judged) as judges:

                async def answered(one: Seed, answer: Answer) -> None:
                    self._journal.add(answer)
                    if answer.finish_reason == FAILED:
                        self._note_failure(answer)
                        return
                    self._failed_in_a_row = 0
                    judges.submit(one, answer, one.language)
                    if settings.tokens is not None:
                        await judges.room(max(_BACKLOG, client.in_flight))

                with judges.attached():
                    await client.ask_all(self._open(), answered)
                judges.finish()

    def _processes(self, in_flight: int | None = None) -> int:
        """How many judge beside us."""
        if self._settings.judges is not None:
            return self._settings.judges
        in_flight = in_flight or self._settings.concurrency
        return 0 if in_flight <= _FEW or self._settings.local is not None else max(1, min(_MOST_JUDGES, len(os.sched_getaffinity(0)) - 1))

    def _note_failure(self, answer: Answer) -> None:
        self._failed += 1
        self._failed_in_a_row += 1
        self._last_failure = answer.content
        if self._failed_in_a_row >= _FAILED_IN_A_ROW and self._failed > self._settings.max_failed * len(self._questions):
            raise SnowError(f"{self._failed_in_a_row} requests in a row failed for good, {self._settings.attempts} tries each{self._cause()}; {self._advice()}")

    def _cause(self) -> str:
        return f"; the last failed with: {self._last_failure}" if self._last_failure else ""

    def _advice(self) -> str:
        return (
            f"see to the server and run the same command again: {self._journal.path} keeps the {len(self._journal)} answers there are, and only the "
            "rest is asked; or allow more in synthesize.max_failed"
        )

    def _open(self) -> Iterator[tuple[Seed, Request]]:
        """Requests without an answer, as long as no limit is reached."""
        for one, request in self._questions:
            if self._enough or self._spent_up:
                return
            if request.id not in self._journal and (self._settings.retry_failed or not self._journal.failed(request.id)):
                yield one, request

    @property
    def _enough(self) -> bool:
        return self._settings.tokens is not None and self.tally.accepted_tokens >= self._settings.tokens

    @property
    def _spent(self) -> float:
        return self._settings.spend.cost(self.tally.prompt_tokens, self.tally.completion_tokens)

    @property
    def _spent_up(self) -> bool:
        return self._settings.spend.reached(self.tally.prompt_tokens, self.tally.completion_tokens)

    def _count(self, one: Seed, answer: Answer, judged: Judged) -> None:
        self.tally.add(one, answer, judged)

    def settle(self, files: Callable[[set[str]], Iterable[Document]]) -> list[tuple[Seed, Request]]:
        """The questions whose answers stay: of duplicates and near-duplicates, the first in the order of the requests.

        ``files(ids)``: the documents with these ids, in any order; here those that gave the seeds, of which no copy shall be in the tier.
        """
        good = [(one, request) for one, request in self._questions if request.id in self.tally.good]
        repeats = exact_repeats([self.tally.good[request.id].fingerprint for _, request in good])
        for index in sorted(repeats):
            self._drop(good[index], "duplicate", "")
        kept = [pair for index, pair in enumerate(good) if index not in repeats]
        if (near := self._settings.near_duplicates) is not None:

            def text(index: int) -> str:
                one, request = kept[index]
                return text_of(self._answer(request), one.language, self._redactor)

            sources = files({one.document_id for one, _ in kept})
            found = near_repeats([self.tally.good[request.id].bands for _, request in kept], text, sources, near)
            for index, other in sorted(found.items()):
                reason = "near-duplicate of a seed's file" if other is None else "near-duplicate"
                self._drop(kept[index], reason, "" if other is None else f"of {kept[other][1].id}")
            kept = [pair for index, pair in enumerate(kept) if index not in found]
        self.tally.settle(request.id for _, request in kept)
        return kept

    def check(self, kept: list[tuple[Seed, Request]], work: Path) -> list[tuple[Seed, Request]]:
        """What the recipe asks of Python documents beyond parsing; results of programs are kept in ``work``. Returns the questions that stay."""
        verify, lint_settings = self._settings.verify, self._settings.lint
        programs = [Program(request.id, text) for one, request, text in self._texts(kept) if LANGUAGES[one.language].fence == LANGUAGES[PYTHON].fence]
        failing: dict[str, tuple[str, str]] = {}
        if lint_settings is not None:
            rates, every = {}, []
            for program, codes in lint(programs, lint_settings):
                rates[program.request] = per_100_lines(program, codes)
                every.append(codes)
                if lint_settings.most_per_100_lines is not None and rates[program.request] > lint_settings.most_per_100_lines:
                    failing[program.request] = "lint", ", ".join(codes)
            self._lint = {"documents": len(rates), "problems_per_100_lines": summary(list(rates.values())), "kinds": kinds(every)}
        if verify is not None:
            self.verified = run_programs([program for program in programs if program.request not in failing], verify, work / "programs.jsonl")
            if verify.required:
                failing |= {request: ("fails its tests", status) for request, status in self.verified.items() if status not in (PASSED, RAN)}
        for pair in kept:
            if pair[1].id in failing:
                self._drop(pair, *failing[pair[1].id])
        stay = [pair for pair in kept if pair[1].id not in failing]
        self.tally.settle(request.id for _, request in stay)
        return stay

    def _texts(self, kept: list[tuple[Seed, Request]]) -> Iterator[tuple[Seed, Request, str]]:
        answers = self._journal.read(request.id for _, request in kept)
        for (one, request), answer in zip(kept, answers, strict=True):
            yield one, request, text_of(answer, one.language, self._redactor)

    def _answer(self, request: Request) -> Answer:
        (answer,) = self._journal.read(iter([request.id]))
        return answer

    def _drop(self, pair: tuple[Seed, Request], reason: str, detail: str) -> None:
        self.tally.drop(reason, pair[0], self._answer(pair[1]).content, detail)

    def documents(self, kept: list[tuple[Seed, Request]]) -> Iterator[Document]:
        """Their documents, sorted by language. The id is the request's, under which the journal has the answer."""
        for one, request, text in self._texts(sorted(kept, key=lambda pair: pair[0].language)):
            self._bytes[one.language] += len(text.encode())
            yield Document(
                id=f"{REPOSITORY}/{request.id}", text=text, language=one.language, repository=REPOSITORY, path=request.id, license="",
                source=REPOSITORY, seed_id=one.document_id,
            )  # fmt: skip

    def summary(self, kept: list[tuple[Seed, Request]]) -> dict[str, Any]:
        """The run's part of ``summary.json``; complete once ``documents`` has been iterated."""
        accepted = Counter(one.language for one, _ in kept)
        requests = self.tally.answers + self._failed
        ended = "tokens" if self._enough else "spend" if self._spent_up else "requests" if requests == self._settings.requests else "seeds"
        if ended == "seeds":
            say(f"  the seeds ended after {requests} requests (one a document), before the limit; a larger high-quality tier has more")
        languages = {
            name: {"asked": asked, "accepted": accepted[name], "bytes": self._bytes[name]} for name, asked in sorted(self.tally.asked.items())
        }  # fmt: skip
        return {
            "requests": requests, "unanswered": self._failed, "accepted": len(kept), "accepted_tokens": self.tally.accepted_tokens,
            "verified": None if self.verified is None else dict(Counter(self.verified.values()).most_common()), "lint": self._lint,
            "languages": languages, "ended": ended, "spent": round(self._spent, 6),
        } | self.tally.summary()  # fmt: skip

    def styles(self, kept: list[tuple[Seed, Request]]) -> dict[str, dict[str, int]]:
        """Prompt -> its answers, and those that stayed documents."""
        questions = self._questions
        asked = Counter(questions.prompt_of(one).name for one, request in questions if request.id in self._journal)
        accepted = Counter(questions.prompt_of(one).name for one, _ in kept)
        return {name: {"asked": count, "accepted": accepted[name]} for name, count in sorted(asked.items())}
