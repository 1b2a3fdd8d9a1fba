"""Which endpoint takes the next request: free places, rates, and pauses for servers in trouble.

A request needs a place at an endpoint for as long as it is in flight. Who waits for one gets the next that is free, at the
endpoint with the smallest share of its places taken, so that slow servers get less and none waits for another.

An endpoint that asks for time (Retry-After, 429), cannot be reached, or fails again and again with no answer in between is paused:
a second, then doubling up to a minute, with jitter. After a pause one request tries it; an answer opens it again. So a server that
restarts costs no request its tries, and one that is down among others only its share of the speed. Paused ``attempts`` times in a
row it counts as down, and is still tried.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.synthesis.settings import EndpointSettings
from megatron_snow.synthesis.wire import PassingError

LONGEST_PAUSE = 60.0  # seconds (ours: a restarted server is found again soon)
_FEWEST_FAILURES = 4  # in a row that pause an endpoint; more where it has many places: an eighth of them (ours: a bad minute of a good server is no reason)
_BURST = 1.0  # seconds of its rate that an endpoint may be asked at once (ours: smooth, yet no timer for every request)


@dataclass
class Bucket:
    """A rate: ``take`` spends, time fills; what was spent beyond the filling must be waited for."""

    per_second: float
    level: float = 0.0
    last: float = 0.0

    def opens(self, now: float) -> float:
        """When the next may be taken, on the clock of ``now``."""
        self.level = min(max(1.0, self.per_second * _BURST), self.level + (now - self.last) * self.per_second)
        self.last = now
        return now if self.level > 0 else now + (1e-3 - self.level) / self.per_second

    def take(self, amount: float) -> None:
        self.level -= amount


@dataclass(eq=False)
class Endpoint:
    """One server and how it fares."""

    settings: EndpointSettings
    places: int
    first_pause: float
    busy: int = 0
    """Places taken."""
    failures: int = 0
    """Since its last answer; so is ``pauses``."""
    pauses: int = 0
    resumes: float = 0.0
    probing: bool = False
    last_failure: str = ""
    refusing: bool = False
    """Whether that was a request for time (429), not a fault."""
    rates: dict[str, Bucket] = field(default_factory=dict)
    """By what they bound: ``requests`` and ``tokens``."""

    @property
    def url(self) -> str:
        return self.settings.url

    def opens(self, now: float) -> float:
        """When time lets it take a request (free places are another matter); ``now`` where it may at once."""
        return max([now, self.resumes, *(bucket.opens(now) for bucket in self.rates.values())])

    def free(self) -> bool:
        """Whether it has a place; a paused one has a single one, for a try."""
        return self.busy < self.places and not (self.pauses and self.probing)

    def answered(self, tokens: int) -> None:
        self.failures = self.pauses = 0
        if "tokens" in self.rates:
            self.rates["tokens"].take(tokens)

    def failed(self, error: PassingError, now: float) -> None:
        self.failures += 1
        self.last_failure, self.refusing = str(error), error.busy
        enough = max(_FEWEST_FAILURES, self.places // 8)
        if error.busy or error.after or not error.reached or self.failures >= enough:
            self._pause(error.after, now)

    def _pause(self, asked: float, now: float) -> None:
        if now < self.resumes:  # asked before the pause began: it says nothing new
            self.resumes = max(self.resumes, now + asked)
            return
        self.pauses += 1
        wait = min(LONGEST_PAUSE, self.first_pause * 2.0 ** min(self.pauses - 1, 16)) * random.uniform(0.75, 1.25)
        self.resumes = now + max(wait, asked)


class Pool:
    """The endpoints of a run. ``attempts``: pauses in a row after which one counts as down."""

    def __init__(self, endpoints: Sequence[EndpointSettings], places: int, first_pause: float, attempts: int) -> None:
        self.endpoints = [_endpoint(one, one.concurrency or places, first_pause) for one in endpoints]
        self._attempts = attempts
        self._waiting: dict[Endpoint | None, deque[asyncio.Future[Endpoint]]] = {one: deque() for one in (*self.endpoints, None)}
        """By the endpoint that is avoided; those who come for the first time, and avoid none, last."""
        self._timer: asyncio.TimerHandle | None = None
        self._dead: SnowError | None = None

    @property
    def places(self) -> int:
        """Requests that can be in flight."""
        return sum(one.places for one in self.endpoints)

    @property
    def in_flight(self) -> int:
        return sum(one.busy for one in self.endpoints)

    async def place(self, avoid: Endpoint | None = None) -> Endpoint:
        """A place at an endpoint. Who comes again, from ``avoid``, goes first, and to another one as long as another one is well.

        Raises the SnowError that the pool was closed with.
        """
        if self._dead:
            raise self._dead
        if not self._waiting[avoid] and (free := self._choose(avoid)) is not None:
            return free
        future: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        self._waiting[avoid].append(future)
        self._deal()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.leave(future.result())
            raise

    def leave(self, endpoint: Endpoint) -> None:
        """Give a place back, used or not."""
        endpoint.busy -= 1
        endpoint.probing = False
        self._deal()

    def failed(self, endpoint: Endpoint, error: PassingError) -> bool:
        """Note a failure (``leave`` comes in addition). True where all endpoints are down now."""
        endpoint.failed(error, asyncio.get_running_loop().time())
        return all(one.pauses >= self._attempts for one in self.endpoints)

    def down(self) -> SnowError:
        """What to say when no endpoint is there any more."""
        whole = ", ".join(f"{one.url} ({one.last_failure})" for one in self.endpoints)
        return SnowError(
            f"no answer from {whole}, tried {self._attempts} times with growing waits; see to the server and run again: answers so far are kept in the journal"
        )

    def close(self, error: SnowError) -> None:
        """End all waiting, now and later, with an error: nothing more is asked."""
        self._dead = self._dead or error
        for queue in self._waiting.values():
            while queue:
                if not (future := queue.popleft()).done():
                    future.set_exception(self._dead)

    def _choose(self, avoid: Endpoint | None) -> Endpoint | None:
        now = asyncio.get_running_loop().time()
        free = [one for one in self.endpoints if one.free() and one.opens(now) <= now]
        if avoid is not None and any(one is not avoid and not one.pauses for one in self.endpoints):
            free = [one for one in free if one is not avoid and not one.pauses]
        if not free:
            return None
        chosen = min(free, key=lambda one: one.busy / one.places) if len(free) > 1 else free[0]
        chosen.busy += 1
        chosen.probing = chosen.pauses > 0
        if "requests" in chosen.rates:
            chosen.rates["requests"].take(1)
        return chosen

    def _deal(self) -> None:
        """Places to those who wait; where only time is missing, again when it has passed."""
        for avoid, queue in self._waiting.items():
            while queue:
                if queue[0].done():
                    queue.popleft()
                elif (free := self._choose(avoid)) is not None:
                    queue.popleft().set_result(free)
                else:
                    break
        if any(self._waiting.values()):
            self._call_again()

    def _call_again(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        times = [opens for one in self.endpoints if one.free() and (opens := one.opens(now)) > now]
        if times and (self._timer is None or self._timer.when() > min(times) or self._timer.when() <= now or self._timer.cancelled()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_at(min(times), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._deal()


def _endpoint(settings: EndpointSettings, places: int, first_pause: float) -> Endpoint:
    limits = {"requests": settings.requests_per_minute, "tokens": settings.tokens_per_minute}
    return Endpoint(settings, places, first_pause, rates={name: Bucket(limit / 60, level=1.0) for name, limit in limits.items() if limit})
