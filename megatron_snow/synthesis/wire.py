"""The OpenAI wire format, as vLLM, SGLang, llama.cpp and hosted servers speak it: what is sent, and what came back made sense of.

Pure functions on bytes; the transport is ``client``'s. Failures are sorted once, here:

- ``PassingError``: may go away by itself. 408, 409, 425, 429, 5xx, time-outs, broken connections, an answer that is no completion.
- ``RefusedError``: concerns one request alone (400, 413, 422: too long, filtered) and becomes that request's answer.
- ``SnowError``: asking more is useless. A refused key, an unknown model, another status.
"""

from __future__ import annotations

import email.utils
import json
import time
from dataclasses import dataclass
from typing import Any

import orjson

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.synthesis.journal import Answer
from megatron_snow.synthesis.prompt import Message

_BUSY = frozenset({429, 503})  # with Retry-After, 503 too means "later", not "broken"
_PASSING = frozenset({408, 409, 425, 429})
_OF_THE_REQUEST = frozenset({400, 413, 422})
_LONGEST_ASKED_WAIT = 600.0  # seconds of a Retry-After that are obeyed (ours: longer ones are quotas of a day; the tries run out, and the run says so)


@dataclass(frozen=True, slots=True)
class Request:
    """One question. ``id`` is a hash of the messages, the sampling and ``seed``."""

    id: str
    messages: list[Message]
    seed: int
    prompt: str | list[int] | None = None
    """A text to go on from, or its token ids, in place of the messages: for models that do not chat."""
    max_tokens: int | None = None
    """Of its answer; None: the sampling's."""

    @property
    def path(self) -> str:
        """Where it is asked, below the endpoint's URL."""
        return "/chat/completions" if self.prompt is None else "/completions"


@dataclass(frozen=True)
class Sampling:
    """How the model answers; the same for every request."""

    model: str
    temperature: float
    top_p: float
    frequency_penalty: float
    max_tokens: int
    stop: tuple[str, ...]


class PassingError(Exception):
    """``after``: seconds the server asks to wait. ``busy``: it said that it is, so that the try does not count. ``reached``: it was there at all."""

    def __init__(self, what: str, after: float = 0.0, *, busy: bool = False, reached: bool = True) -> None:
        super().__init__(what)
        self.after, self.busy, self.reached = after, busy, reached


class RefusedError(Exception):
    """The server will not answer this request."""


def question(sampling: Sampling, request: Request) -> bytes:
    """The body of POST ``request.path``."""
    asked: dict[str, Any] = {"messages": request.messages} if request.prompt is None else {"prompt": request.prompt}
    body = asked | {
        "model": sampling.model, "temperature": sampling.temperature, "top_p": sampling.top_p, "seed": request.seed,
        "max_tokens": request.max_tokens or sampling.max_tokens,
    }  # fmt: skip
    if sampling.stop:
        body["stop"] = sampling.stop
    if sampling.frequency_penalty:
        body["frequency_penalty"] = sampling.frequency_penalty
    return orjson.dumps(body)


def answer(request: str, data: bytes) -> Answer:
    """What a reply of status 200 says. Raises PassingError where it is no completion: a server of unknown making can send anything."""
    reply = _json(data)
    try:
        choice, usage = reply["choices"][0], reply.get("usage")
        text = choice["text"] if "text" in choice else choice["message"].get("content")
        content, reason = (text or "").encode(errors="replace").decode(), choice["finish_reason"]  # half surrogate pairs
        counts = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")} if usage else {}
        return Answer(id=request, content=content, finish_reason=reason, **counts)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise PassingError(f"an answer that is no chat completion: {_start(data)}") from error


def models(data: bytes) -> list[str]:
    """The names that GET /models lists. Raises RefusedError where it is no such list."""
    try:
        return [str(model["id"]) for model in _json(data)["data"]]
    except (PassingError, KeyError, TypeError) as error:
        raise RefusedError(f"its list of models reads {_start(data)}") from error


def complaint(status: int, data: bytes, retry_after: str | None, url: str, model: str, section: str = "synthesize") -> Exception:
    """The exception that a status other than 200 means. ``section``: of the recipe, where the settings are."""
    what = f"status {status}{_said(data)}"
    if status in (401, 403):
        return SnowError(f"{url} refused the key ({what}); name the variable that holds it in {section}.api_key_env")
    if status == 404:
        return SnowError(f"{url} knows no model {model!r}, or no chat completions ({what}); set {section}.model or the endpoint's URL")
    if status in _OF_THE_REQUEST:
        return RefusedError(what)
    if status in _PASSING or status >= 500:
        after = asked_wait(retry_after)
        return PassingError(what, after, busy=status == 429 or (status in _BUSY and after > 0))
    return SnowError(f"{url} answered with {what}; is it an OpenAI-compatible endpoint?")


def asked_wait(header: str | None) -> float:
    """Seconds of a Retry-After header, which is a number or a date; 0 where it is neither."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(0.0, seconds), _LONGEST_ASKED_WAIT) if seconds == seconds else 0.0


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(data)  # takes half of a surrogate pair, which is valid JSON though not valid text
    except ValueError as error:
        raise PassingError(f"an answer that is not JSON: {_start(data)}") from error


def _said(data: bytes) -> str:
    """The server's own words about an error, in brackets."""
    try:
        error = orjson.loads(data)
        error = error.get("error", error) if isinstance(error, dict) else error
        text = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    except orjson.JSONDecodeError:
        text = data.decode(errors="replace")
    brief = " ".join(str(text or "").split())[:200]
    return f" ({brief})" if brief else ""


def _start(data: bytes) -> str:
    return repr(data[:100].decode(errors="replace"))
