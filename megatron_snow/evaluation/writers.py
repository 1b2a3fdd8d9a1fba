"""Who completes a benchmark's prompts: the model in this process, or servers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress
from megatron_snow.artifacts.settings import digest
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.evaluation import programs
from megatron_snow.evaluation.generation import Completion, Finish, Sampling, complete, cut
from megatron_snow.evaluation.language_model import LanguageModel
from megatron_snow.evaluation.passing import Sample, Writer
from megatron_snow.evaluation.settings import EvaluateSettings, ServedSettings
from megatron_snow.synthesis import wire
from megatron_snow.synthesis.client import Patience, connect
from megatron_snow.synthesis.journal import FAILED, REFUSED, Answer, Journal
from megatron_snow.synthesis.prompt import Message

SECTION = "evaluate.endpoint"


def sample_seed(seed: int, problem: Problem, sample: int) -> int:
    """A seed that depends on the sample alone, not on its company or on what was done before a kill."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{problem.benchmark}/{problem.task_id}/{sample}".encode()).digest()[:6], "big")


def stops(problem: Problem, settings: EvaluateSettings) -> tuple[str, ...]:
    """What ends a completion; an answer in words ends by itself."""
    if settings.stop is not None:
        return settings.stop
    return () if settings.chat else programs.stops(problem)


def local(lm: LanguageModel, settings: EvaluateSettings, seed: int) -> Writer:
    """The model in this process, a batch at a time.

    A batch cut short by a kill is completed whole again, so that a resumed run gives what an undisturbed one gives.
    """
    sampling = Sampling(settings.temperature, settings.top_p)

    def write(asked: Sequence[tuple[Problem, int]], done: Container[tuple[str, int]]) -> Iterator[list[Sample]]:
        for start in range(0, len(asked), settings.batch_size):
            batch = asked[start : start + settings.batch_size]
            if all((problem.task_id, sample) in done for problem, sample in batch):
                continue
            prompts, seeds = _prompts(lm, settings, [problem for problem, _ in batch]), [sample_seed(seed, *one) for one in batch]
            written = complete(lm, prompts, settings.max_new_tokens, stops(batch[0][0], settings), sampling, seeds)
            yield [(*one, completion) for one, completion in zip(batch, written, strict=True)]

    return write


def _prompts(lm: LanguageModel, settings: EvaluateSettings, problems: Sequence[Problem]) -> list[list[int]]:
    if settings.chat:
        return lm.questions([programs.question(problem) for problem in problems])
    return lm.prompts([programs.prompt(problem) for problem in problems])


def served(lm: LanguageModel, settings: EvaluateSettings, endpoint: ServedSettings, seed: int, phase: str, journals: Path) -> Writer:
    """OpenAI-compatible servers of the same model. ``lm``: its tokenizer; ``phase``: stands for ``{phase}`` in the model's name.

    A prompt to complete is sent as the very ids that ``local`` would use, so that nothing hangs on how a server reads text. Every answer goes
    into a journal a benchmark below ``journals`` before it counts: a killed run asks again what was in flight. All are asked, then judged.
    The writer raises SnowError where no server is there, it has another model, or a request is refused or fails for good.
    """
    model = endpoint.model.replace("{phase}", phase)
    patience = Patience(endpoint.timeout, endpoint.attempts, endpoint.first_wait)

    def write(asked: Sequence[tuple[Problem, int]], done: Container[tuple[str, int]]) -> Iterator[list[Sample]]:
        missing = [one for one in asked if (one[0].task_id, one[1]) not in done]
        if not missing:
            return
        ends = stops(missing[0][0], settings)
        sampling = wire.Sampling(model, settings.temperature, settings.top_p, 0.0, settings.max_new_tokens, ends[: endpoint.stop_limit])
        requests = [request(lm, settings, sampling, one, seed) for one in missing]
        journals.mkdir(parents=True, exist_ok=True)
        name = missing[0][0].benchmark
        with Journal(journals / f"{name.replace('/', '.')}.jsonl") as journal:
            asyncio.run(_ask([one for one in requests if one is not None and one.id not in journal], endpoint, sampling, patience, journal, name))
            answers = {answer.id: answer for answer in journal.read(one.id for one in requests if one is not None)}
        for start in range(0, len(missing), settings.batch_size):
            some = zip(missing[start : start + settings.batch_size], requests[start : start + settings.batch_size], strict=True)
            yield [(*one, Completion("", "prompt too long") if asking is None else _completion(answers[asking.id], ends)) for one, asking in some]

    return write


def request(lm: LanguageModel, settings: EvaluateSettings, sampling: wire.Sampling, asked: tuple[Problem, int], seed: int) -> wire.Request | None:
    """What is sent for a sample; None where no position is left for an answer."""
    problem, chosen = asked[0], sample_seed(seed, *asked)
    messages: list[Message] = [Message(role="user", content=programs.question(problem))] if settings.chat else []
    ids = None if settings.chat else lm.prompts([programs.prompt(problem)])[0]
    room = settings.max_new_tokens if ids is None else min(settings.max_new_tokens, lm.positions - len(ids))
    described = [messages, ids, room, chosen, sampling.model, sampling.temperature, sampling.top_p, sampling.stop]
    return wire.Request(digest(described), messages, chosen, ids, room) if room > 0 else None


async def _ask(requests: list[wire.Request], endpoint: ServedSettings, sampling: wire.Sampling, patience: Patience, journal: Journal, name: str) -> None:
    if not requests:
        return
    with Progress(f"{name}, asking", total=len(requests), unit="samples") as bar:
        async with connect(endpoint.endpoints, endpoint.api_key_env, sampling, patience, endpoint.concurrency, SECTION) as client:
            await client.check()

            async def answered(_: None, answer: Answer) -> None:
                if answer.finish_reason in (FAILED, REFUSED):
                    raise SnowError(
                        f"{name}: the server {answer.finish_reason} a request ({answer.content}); mend it and run again: {len(journal)} answers are kept. "
                        "Where it takes fewer stop strings set evaluate.endpoint.stop_limit, where it does not complete token ids set evaluate.chat"
                    )
                journal.add(answer)
                bar.advance(1)

            await client.ask_all(((None, one) for one in requests), answered)


def _completion(answer: Answer, ends: Sequence[str]) -> Completion:
    finish: Finish = "length" if answer.finish_reason == "length" else "stop"
    return Completion(cut(answer.content, ends), finish)
