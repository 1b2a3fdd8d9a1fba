"""``snow label``: ask a served LLM how much a learner gets out of files, on a scale of 0 to 5: the labels of the paper's Ann-Edu (section 3.4).

Random files of the standard tier, one question each, by the synthesize settings' servers and patience. Answers go into a journal
first, so that a run that is killed or asked for more files asks only what is missing. The result is a jsonl file that
``annotate.labels`` reads: id, text, label, repository, language. The prompt is ours: the paper prints none; it has
400k labels, by Mixtral-8x7B-Instruct.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson

from megatron_snow.artifacts.documents import Document, read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress, track
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.artifacts.settings import digest
from megatron_snow.quality.draw import Draw
from megatron_snow.synthesis.client import Patience, connect
from megatron_snow.synthesis.journal import FAILED, REFUSED, Answer, Journal
from megatron_snow.synthesis.prompt import Message
from megatron_snow.synthesis.server import local_server, model_name
from megatron_snow.synthesis.settings import EndpointSettings, SynthesizeSettings
from megatron_snow.synthesis.wire import Request, Sampling

SCALE = (0, 5)  # paper, table 4 (section 3.4 says 1 to 5 once)
_SHOWN = 6_000  # characters of a file that are shown (ours: some 2,000 tokens, the beginning and the end of a longer file)
_ANSWER = 256  # tokens of an answer (ours: two sentences and the number)
_NUMBER = re.compile(r"score\W{0,6}([0-5](?:\.\d+)?)(?!\d)", re.IGNORECASE)

PROMPT = """You judge source files for a programming course. Give one point for each statement that holds:
1. The file is real code that does something, not data, configuration or generated boilerplate.
2. Its purpose can be understood from the file alone.
3. It is clean: telling names, small functions, no dead code, errors handled.
4. It explains itself: comments or docstrings that say why, or code that needs none.
5. A learner would take an algorithm, a technique or an idiom away from it.

The file is written in {language}:

```
{code}
```

Say in one or two sentences which points it earns, then end with a line that reads "Score: N", N being the sum from 0 to 5."""


def question(document: Document) -> list[Message]:
    """The messages about a file."""
    text = document["text"]
    if len(text) > _SHOWN:
        text = text[: _SHOWN // 2] + "\n[...]\n" + text[-_SHOWN // 2 :]
    return [{"role": "user", "content": PROMPT.format(language=document["language"], code=text)}]


def points(answer: str) -> float | None:
    """The last score that an answer names, or None."""
    found = _NUMBER.findall(answer)
    return float(found[-1]) if found and SCALE[0] <= float(found[-1]) <= SCALE[1] else None


def label(settings: SynthesizeSettings, seed: int, standard: Path, count: int, target: Path) -> dict[str, Any]:
    """Label ``count`` files of ``standard`` and write ``target`` (jsonl); the journal lies beside it. Returns counts.

    Raises SnowError where there is no file, no server, or no answer with a score in it.
    """
    draw = Draw(count, seed, "label")
    for document in track(read_documents(standard), "drawing files to label", unit="files"):
        draw.offer(document["id"])
    wanted = set(draw.names())
    documents = [document for document in read_documents(standard) if document["id"] in wanted]
    if not documents:
        raise SnowError(f"{standard} holds no document; look at the corpus arrow's drop counts")
    model = settings.model if settings.local is None else model_name(settings.local)
    sampling = Sampling(model, 0.0, 1.0, 0.0, _ANSWER, ())
    asked = [(document, _request(document, sampling, seed)) for document in documents]
    target.parent.mkdir(parents=True, exist_ok=True)
    with Journal(target.with_name(target.name + ".journal")) as journal:
        missing = [(document["id"], request) for document, request in asked if request.id not in journal]
        if missing:
            asyncio.run(_ask(settings, sampling, missing, journal))
        answers = {answer.id: answer for answer in journal.read(iter([request.id for _, request in asked if request.id in journal]))}
    rows, tally = [], Counter[str]()
    for document, request in asked:
        answer = answers.get(request.id)
        value = None if answer is None or answer.finish_reason in (REFUSED, FAILED) else points(answer.content)
        if value is None:
            tally["unanswered" if answer is None else "without a score"] += 1
            continue
        tally[f"{value:g}"] += 1
        rows.append({**{name: document[name] for name in ("id", "text", "repository", "language")}, "label": value})
    if not rows:
        raise SnowError(f"none of {len(asked)} answers of {model} ends with a score from 0 to 5; ask a model that follows instructions (synthesize.model)")
    write_atomically(target, b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return {"files": len(asked), "labelled": len(rows), "model": model, "labels": dict(sorted(tally.items()))}


def _request(document: Document, sampling: Sampling, seed: int) -> Request:
    messages = question(document)
    name = digest([messages, [sampling.model, sampling.temperature, sampling.max_tokens], seed])
    return Request(name, messages, int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 2**31)


async def _ask(settings: SynthesizeSettings, sampling: Sampling, missing: list[tuple[str, Request]], journal: Journal) -> None:
    with ExitStack() as stack:
        endpoints, in_flight, key = settings.endpoints, settings.concurrency, settings.api_key_env
        if settings.local is not None:
            url, _ = stack.enter_context(local_server(settings.local))
            endpoints, in_flight, key = (EndpointSettings(url=url),), settings.local.slots, None
        bar = stack.enter_context(Progress("labelling", len(missing), "files"))
        async with connect(endpoints, key, sampling, Patience(settings.timeout, settings.attempts, settings.first_wait), in_flight) as client:
            await client.check()

            async def answered(name: str, answer: Answer) -> None:
                journal.add(answer)
                bar.advance()

            await client.ask_all(iter(missing), answered)
