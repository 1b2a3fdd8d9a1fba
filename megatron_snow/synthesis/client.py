"""Asks OpenAI-compatible servers for chat completions, patiently: back-off with jitter, another endpoint on the next try.

What can pass is tried again: no connection, a time-out, 408, 409, 425, 429, 5xx, an answer that is no completion. What cannot
pass ends the run with advice: a refused key, an unknown model. What concerns one request alone (400, 413, 422: too long,
filtered) becomes that request's answer. A request whose tries are used up ends the run if no other got through meanwhile. If
others did, they go on and the run fails when they are done: nothing is published, and the next run asks only what is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.synthesis.journal import Answer
from megatron_snow.synthesis.prompt import Message

if TYPE_CHECKING:
    import openai

_LONGEST_WAIT = 60.0  # seconds (ours: a restarting server is found again soon)
_PASSING = frozenset({408, 409, 425, 429})
_OF_THE_REQUEST = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True)
class Request:
    """One question. ``id`` is a hash of the messages, the sampling and ``seed``."""

    id: str
    messages: list[Message]
    seed: int


@dataclass(frozen=True)
class Sampling:
    """How the model answers; the same for every request."""

    model: str
    temperature: float
    top_p: float
    frequency_penalty: float
    max_tokens: int
    stop: tuple[str, ...]


@dataclass(frozen=True)
class Patience:
    """How long to go on."""

    timeout: float
    attempts: int
    first_wait: float


class _PassingError(Exception):
    """May go away by itself; ``after``: the seconds the server asks to wait."""

    def __init__(self, what: str, after: float = 0.0) -> None:
        super().__init__(what)
        self.after = after


class _RefusedError(Exception):
    """The server will not answer this request."""


class Client:
    """Connections to the endpoints; made by ``connect``."""

    def __init__(self, clients: dict[str, openai.AsyncOpenAI], sampling: Sampling, patience: Patience) -> None:
        self._clients, self._sampling, self._patience = list(clients.items()), sampling, patience
        self._last_answer = 0.0
        self.retries = 0
        """Tries beyond the first so far."""
        self.last_failure = ""
        """Why the last request whose tries were used up got no answer."""

    async def ask(self, request: Request, home: int) -> Answer | None:
        """The answer, from endpoint ``home`` (modulo their number) or, after a failure, from the next ones.

        None: no try succeeded while other requests got through. Raises SnowError where nothing gets through or asking more is useless.
        """
        begun = time.monotonic()
        endpoint = home % len(self._clients)

        async def once() -> Answer:
            nonlocal endpoint
            url, client = self._clients[endpoint]
            endpoint = (endpoint + 1) % len(self._clients)
            return await _translated(url, self._sampling.model, lambda: _complete(client, self._sampling, request))

        try:
            answer = await self._patiently(once)
        except _RefusedError as error:
            answer = Answer(id=request.id, content=str(error), finish_reason="refused")
        except _PassingError as error:
            self.last_failure = str(error)
            if self._last_answer > begun:
                return None
            urls = ", ".join(url for url, _ in self._clients)
            raise SnowError(
                f"no answer from {urls} in {self._patience.attempts} tries ({error}); see to the server and run again: answers so far are kept in the journal"
            ) from error
        self._last_answer = time.monotonic()
        return answer

    async def check(self) -> None:
        """Make sure that each endpoint is an OpenAI-compatible server with our model. Raises SnowError otherwise."""
        for url, client in self._clients:

            async def listing(url: str = url, client: openai.AsyncOpenAI = client) -> list[str] | None:
                return await _translated(url, self._sampling.model, lambda: _models(client))

            try:
                names = await self._patiently(listing)
            except _PassingError as error:
                raise SnowError(
                    f"no server answers at {url} ({error}); start one there (for example: vllm serve {self._sampling.model}), name another under "
                    "synthesize.endpoints, or try the road with synthesize.local=fixture:SmolLM2-135M-Instruct"
                ) from error
            except _RefusedError as error:
                raise SnowError(f"{url} is not an OpenAI-compatible endpoint ({error}); its URL usually ends in /v1") from error
            if names is not None and self._sampling.model not in names:
                raise SnowError(f"{url} has no model {self._sampling.model!r}; it has {', '.join(names) or 'none'}: set synthesize.model")

    async def _patiently(self, step: Callable[[], Any]) -> Any:
        backoff = wait_exponential_jitter(initial=self._patience.first_wait, max=_LONGEST_WAIT, jitter=self._patience.first_wait)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            self.retries += 1
            return max(backoff(state), min(error.after, _LONGEST_WAIT) if isinstance(error, _PassingError) else 0.0)

        retrying = AsyncRetrying(stop=stop_after_attempt(self._patience.attempts), wait=wait, retry=retry_if_exception_type(_PassingError), reraise=True)
        return await retrying(step)


@asynccontextmanager
async def connect(endpoints: tuple[str, ...], api_key_env: str | None, sampling: Sampling, patience: Patience, in_flight: int) -> AsyncIterator[Client]:
    """A client for the endpoints, ``in_flight`` connections each. Raises SnowError where the key's variable is not set."""
    import httpx2
    import openai

    key = "none"
    if api_key_env is not None:
        key = os.environ.get(api_key_env, "")
        if not key:
            raise SnowError(f"the environment variable {api_key_env} (synthesize.api_key_env) is not set; put the endpoints' key there")
    clients = {}
    for url in endpoints:
        limits = httpx2.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        loopback = "//127.0.0.1" in url or "//localhost" in url  # a proxy for the world has no business there
        http = openai.DefaultAsyncHttpxClient(limits=limits, trust_env=not loopback, timeout=patience.timeout)
        clients[url] = openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=patience.timeout, http_client=http)
    try:
        yield Client(clients, sampling, patience)
    finally:
        for client in clients.values():
            await client.close()


async def _complete(client: openai.AsyncOpenAI, sampling: Sampling, request: Request) -> Answer:
    optional: dict[str, Any] = {"stop": list(sampling.stop)} if sampling.stop else {}
    if sampling.frequency_penalty:
        optional["frequency_penalty"] = sampling.frequency_penalty
    reply = await client.chat.completions.create(
        model=sampling.model, messages=request.messages, temperature=sampling.temperature, top_p=sampling.top_p,  # type: ignore[arg-type]
        max_tokens=sampling.max_tokens, seed=request.seed, **optional,
    )  # fmt: skip
    try:  # a server of unknown making: the client library does not check what it got
        choice, usage = reply.choices[0], reply.usage
        content, reason = (choice.message.content or "").encode(errors="replace").decode(), choice.finish_reason  # JSON can hold half of a surrogate pair
        counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens} if usage else {}
        return Answer(id=request.id, content=content, finish_reason=reason, **counts)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise _PassingError(f"an answer that is no chat completion: {str(reply)[:100]!r}") from error


async def _models(client: openai.AsyncOpenAI) -> list[str] | None:
    """The server's models, or None where it does not list any."""
    import openai

    try:
        page = await client.models.list()
    except openai.NotFoundError:
        return None
    try:
        return [str(model.id) for model in page.data]
    except (AttributeError, TypeError) as error:
        raise _RefusedError(f"its list of models reads {str(page)[:100]!r}") from error


async def _translated(url: str, model: str, step: Callable[[], Any]) -> Any:
    """Run one call; its errors sorted into passing, this request's, and the user's to mend."""
    import openai

    try:
        return await step()
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise SnowError(f"{url} refused the key ({error.status_code}); name the variable that holds it in synthesize.api_key_env") from error
    except openai.NotFoundError as error:
        raise SnowError(f"{url} knows no model {model!r}, or no chat completions ({_brief(error)}); set synthesize.model or the endpoint's URL") from error
    except openai.APIStatusError as error:
        if error.status_code in _OF_THE_REQUEST:
            raise _RefusedError(_brief(error)) from error
        if error.status_code in _PASSING or error.status_code >= 500:
            raise _PassingError(f"status {error.status_code}", _asked_wait(error.response.headers.get("retry-after"))) from error
        raise SnowError(f"{url} answered with status {error.status_code} ({_brief(error)}); is it an OpenAI-compatible endpoint?") from error
    except openai.APITimeoutError as error:
        raise _PassingError("time-out") from error
    except openai.APIConnectionError as error:
        raise _PassingError(f"{error.__cause__ or error}") from error
    except (openai.APIError, ValueError) as error:  # ValueError: half a JSON text
        raise _PassingError(f"an answer that is not JSON: {error}") from error


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _asked_wait(header: str | None) -> float:
    """Seconds of a Retry-After header; its other form, a date, is left to the back-off."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
