"""Asks OpenAI-compatible servers for chat completions: thousands in flight, patiently, from one process.

The transport is aiohttp and the format is ours (``wire``): the openai package's client makes 640 to 890 requests a second on one
core, aiohttp several thousand (bench/synthesis_client.py), and what it adds to the format is retries, which ``endpoints`` and this
module do with more knowledge: of the other endpoints, of the other requests, and of what the server asked for.

A request whose tries are used up is answered ``failed`` where the servers are there; where none is, the run ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.synthesis import wire
from megatron_snow.synthesis.endpoints import LONGEST_PAUSE, Endpoint, Pool
from megatron_snow.synthesis.journal import FAILED, REFUSED, Answer
from megatron_snow.synthesis.settings import EndpointSettings
from megatron_snow.synthesis.wire import PassingError, RefusedError, Request, Sampling

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
_CONNECT = 30.0  # seconds for a connection (ours: a busy server's queue of new ones is full for a while, a dead one's never empties)
_LISTING = 30.0  # seconds for the list of models (ours: it costs the server nothing)
_SPARE = 16  # asking tasks beyond the places, and an eighth of them: who waits for a second try leaves its place to these (ours)
_AT_ONCE = 32  # requests that begin together (ours: less than 1 % of 4,096, which they come back as together)
_BEGINNINGS = 1000  # a second beyond those (ours: a fifth of what this process can ask; LOG.md 2026-11-26)
_BREATH = 0.01  # seconds between the beginnings of a few (ours: ten at the rate above)
_COLLECTIONS = (500_000, 1000, 1000)  # gc's thresholds while asking, for (700, 10, 10) (ours: one young collection paused 60 to 160 ms; LOG.md 2026-11-26)
_OTHER_FILES = 256  # descriptors that are no connections: journal, shards, libraries (ours)


@dataclass(frozen=True)
class Patience:
    """How long to go on."""

    timeout: float
    attempts: int
    first_wait: float


class Client:
    """Connections to the endpoints; made by ``connect``."""

    def __init__(self, pool: Pool, sessions: dict[str, aiohttp.ClientSession], sampling: Sampling, patience: Patience, section: str) -> None:
        self._pool, self._sessions, self._sampling, self._patience, self._section = pool, sessions, sampling, patience, section
        self._examination: asyncio.Task[bool] | None = None
        self.retries = 0
        """Tries beyond the first so far."""

    @property
    def in_flight(self) -> int:
        """Requests at the servers now."""
        return self._pool.in_flight

    async def ask(self, request: Request) -> Answer:
        """The answer: of finish reason ``refused`` where the server would not, ``failed`` where all tries did (``content`` says why).

        Raises SnowError where no server is there any more or asking more is useless.
        """
        return await self._ask(request, await self._pool.place())

    async def ask_all(self, source: Iterator[tuple[T, Request]], answered: Callable[[T, Answer], Awaitable[None]]) -> None:
        """Keep every place busy until ``source`` ends; a request is taken from it only when there is a place for it.

        Thousands do not begin together: what is asked in one moment is mostly answered in one, again and again, and while so many answers wait for
        this process, their places at the servers are empty. Spread over seconds in the beginning, they stay spread.

        ``answered`` is awaited with each answer as it comes, in no order; its place is free by then. Raises the first SnowError.
        """
        ended = asyncio.Event()

        async def work() -> None:
            while True:
                place = await self._pool.place()
                entry = next(source, None)
                if entry is None:
                    self._pool.leave(place)
                    ended.set()
                    return
                await answered(entry[0], await self._ask(entry[1], place))

        clock = asyncio.get_running_loop().time
        try:
            with _rare_collections():
                async with asyncio.TaskGroup() as group:
                    start = clock()
                    for number in range(self._pool.places + max(_SPARE, self._pool.places // 8)):
                        while not ended.is_set() and number >= _AT_ONCE + _BEGINNINGS * (clock() - start):
                            await asyncio.sleep(_BREATH)
                        if ended.is_set():
                            break
                        group.create_task(work())
        except BaseExceptionGroup as errors:
            first = next((error for error in errors.exceptions if isinstance(error, SnowError)), None)
            raise (first or errors.exceptions[0]) from errors

    async def check(self) -> None:
        """Make sure that each endpoint is an OpenAI-compatible server with our model. Raises SnowError otherwise."""
        for endpoint in self._pool.endpoints:
            names = await self._patient_models(endpoint.url)
            if names is not None and self._sampling.model not in names:
                raise SnowError(f"{endpoint.url} has no model {self._sampling.model!r}; it has {', '.join(names) or 'none'}: set {self._section}.model")

    async def _ask(self, request: Request, place: Endpoint) -> Answer:
        """``place`` is held when this begins and no longer when it ends."""
        tries = 0
        while True:
            try:
                answer = await self._post(place.url, request)
                place.answered((answer.prompt_tokens or 0) + (answer.completion_tokens or 0))
                return answer
            except RefusedError as error:
                place.answered(0)
                return Answer(id=request.id, content=str(error), finish_reason=REFUSED)
            except PassingError as error:
                trouble = error
                if self._pool.failed(place, error) and not await self._examined():
                    down = self._pool.down()
                    self._pool.close(down)
                    raise down from error
            except SnowError as error:
                self._pool.close(error)
                raise
            finally:
                self._pool.leave(place)
            tries += trouble.reached and not trouble.busy
            if tries >= self._patience.attempts:
                return Answer(id=request.id, content=str(trouble), finish_reason=FAILED)
            self.retries += 1
            if tries:
                await asyncio.sleep(min(LONGEST_PAUSE, self._patience.first_wait * 2.0 ** min(tries - 1, 16)) * random.uniform(0.5, 1.5))
            place = await self._pool.place(avoid=place)

    async def _examined(self) -> bool:
        """Whether any of the endpoints that all seem down is there after all and only fails at what it is asked.

        Not where it asks for time again and again: such tries do not count, and a quota that is used up would be asked for ever.
        """
        if self._examination is None:
            self._examination = asyncio.create_task(self._examine())
        examination = self._examination
        there = await asyncio.shield(examination)
        if self._examination is examination:
            self._examination = None
        return there

    async def _examine(self) -> bool:
        there = False
        for endpoint in self._pool.endpoints:
            if endpoint.refusing:
                continue
            try:
                await self._models(endpoint.url)
            except (PassingError, RefusedError):
                continue
            endpoint.failures = endpoint.pauses = 0
            there = True
        return there

    async def _post(self, url: str, request: Request) -> Answer:
        body = wire.question(self._sampling, request)
        status, data, after = await self._exchange(url, "POST", request.path, body, self._patience.timeout)
        if status != 200:
            raise wire.complaint(status, data, after, url, self._sampling.model, self._section)
        return wire.answer(request.id, data)

    async def _models(self, url: str) -> list[str] | None:
        """The server's models, or None where it does not list any."""
        status, data, after = await self._exchange(url, "GET", "/models", None, min(_LISTING, self._patience.timeout))
        if status == 404:
            return None
        if status != 200:
            raise wire.complaint(status, data, after, url, self._sampling.model, self._section)
        return wire.models(data)

    async def _patient_models(self, url: str) -> list[str] | None:
        for attempt in range(self._patience.attempts):
            try:
                return await self._models(url)
            except PassingError as error:
                trouble = error
            except RefusedError as error:
                raise SnowError(f"{url} is not an OpenAI-compatible endpoint ({error}); its URL usually ends in /v1") from error
            if attempt + 1 < self._patience.attempts:
                await asyncio.sleep(max(trouble.after, min(LONGEST_PAUSE, self._patience.first_wait * 2.0**attempt)))
        other = ", or try the road with synthesize.local=fixture:SmolLM2-135M-Instruct" if self._section == "synthesize" else ""
        raise SnowError(
            f"no server answers at {url} ({trouble}); start one there (for example: vllm serve {self._sampling.model}), or name another under "
            f"{self._section}.endpoints{other}"
        )

    async def _exchange(self, url: str, method: str, path: str, body: bytes | None, timeout: float) -> tuple[int, bytes, str | None]:
        """(status, data, Retry-After). Raises PassingError where the exchange itself fails."""
        import aiohttp

        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, _CONNECT))
        try:
            async with self._sessions[url].request(method, url + path, data=body, timeout=limits, allow_redirects=False) as reply:
                return reply.status, await reply.read(), reply.headers.get("retry-after")
        except aiohttp.InvalidURL as error:
            raise SnowError(f"{url} is not a URL; write it like http://127.0.0.1:8000/v1") from error
        except aiohttp.ClientConnectorError as error:
            raise PassingError(f"{error}", reached=False) from error
        except TimeoutError as error:  # aiohttp's own are kinds of it
            raise PassingError("time-out") from error
        except (aiohttp.ClientError, OSError) as error:
            raise PassingError(f"the connection broke: {' '.join(str(error).split())[:200] or type(error).__name__}") from error


@contextlib.asynccontextmanager
async def connect(
    endpoints: Sequence[EndpointSettings], api_key_env: str | None, sampling: Sampling, patience: Patience, in_flight: int,
    section: str = "synthesize",
) -> AsyncIterator[Client]:  # fmt: skip
    """A client for the endpoints with ``in_flight`` places each (but for those that say otherwise). ``section``: of the recipe, named in errors.

    Raises SnowError where the key's variable is not set or the system does not allow so many connections.
    """
    import aiohttp

    headers = {"content-type": "application/json"}
    if api_key_env is not None:
        key = os.environ.get(api_key_env, "")
        if not key:
            raise SnowError(f"the environment variable {api_key_env} ({section}.api_key_env) is not set; put the endpoints' key there")
        headers["authorization"] = f"Bearer {key}"
    pool = Pool(endpoints, in_flight, patience.first_wait, patience.attempts)
    _allow_files(pool.places + _OTHER_FILES, section)
    async with contextlib.AsyncExitStack() as stack:
        sessions = {}
        for one in endpoints:
            loopback = "//127.0.0.1" in one.url or "//localhost" in one.url  # a proxy for the world has no business there
            connector = aiohttp.TCPConnector(limit=0)  # the places are the limit
            session = aiohttp.ClientSession(connector=connector, headers=headers, trust_env=not loopback, cookie_jar=aiohttp.DummyCookieJar())
            sessions[one.url] = await stack.enter_async_context(session)
        yield Client(pool, sessions, sampling, patience, section)


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Within, garbage is collected rarely, and what was there before is left alone.

    Thousands of tasks and connections are some hundred thousand objects, none of them garbage: to look through them takes 50 ms and more, in which
    nobody asks, and a quarter of the processor time. A request leaves no cycle behind (0 in 6,000), so that there is little to collect.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _allow_files(wanted: int, section: str) -> None:
    """Raise the soft limit of open files, which is 1,024 on most systems, as far as needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft,) or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SnowError(f"{wanted} open files are needed for so many requests in flight, the system allows {hard}; lower {section}.concurrency (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
