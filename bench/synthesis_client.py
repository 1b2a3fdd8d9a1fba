"""The synthesis client beside the openai package's and beside bare sockets, against a server on this machine that costs next to nothing.

    python bench/synthesis_client.py [--rounds 3] [--requests 6000] [--in-flight 4096] [--latency 4]

1. Requests a second against a server that answers at once, 256 in flight: ours (with its journal), aiohttp alone, the openai package (where it
   is installed: pip install openai), interleaved, medians; by wall time and by the client's own processor time.
2. ``--in-flight`` requests at a server that takes ``--latency`` seconds for each: answers a second beside what bare sockets get out of it,
   and how full the server was as it saw it itself, from the moment it was full first until the last request was taken; and the seconds from
   the first request until it was full, in which ours spreads what it begins with.

The server is one process, the client another: on two cores they do not share one. Answers carry 1.2 kB, questions 2 kB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp

from megatron_snow.synthesis.client import Patience, connect
from megatron_snow.synthesis.journal import Answer, Journal
from megatron_snow.synthesis.settings import EndpointSettings
from megatron_snow.synthesis.wire import Request, Sampling, question

MODEL = "teacher"
SAMPLING = Sampling(MODEL, 0.8, 0.95, 0.0, 512, ())
QUESTION = [{"role": "system", "content": "s" * 200}, {"role": "user", "content": "q" * 1800}]
REPLY = json.dumps(
    {"id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "usage": {"prompt_tokens": 500, "completion_tokens": 300, "total_tokens": 800},
     "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "c" * 1000}}]}
).encode()  # fmt: skip
LISTING = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()


def packet(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class Server(asyncio.Protocol):
    """Reads a request, answers after ``latency``; keeps the times at which its load changed."""

    def __init__(self, latency: float, busy: list[tuple[float, int]]) -> None:
        self._latency, self._busy, self._data = latency, busy, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._data[:head].lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._data) < head + 4 + length:
            return
        chat = self._data.startswith(b"POST")
        self._data = self._data[head + 4 + length :]
        if not chat:
            self._send(packet(LISTING))
        elif self._latency:
            self._busy.append((time.monotonic(), 1))
            asyncio.get_running_loop().call_later(self._latency, self._late)
        else:
            self._send(packet(REPLY))

    def _late(self) -> None:
        self._busy.append((time.monotonic(), -1))
        self._send(packet(REPLY))

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


def serve(latency: float, pipe: Connection) -> None:
    async def main() -> None:
        busy: list[tuple[float, int]] = []
        server = await asyncio.get_running_loop().create_server(lambda: Server(latency, busy), "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        while True:
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
            pipe.send(list(busy))
            busy.clear()

    asyncio.run(main())


class Direct(asyncio.Protocol):
    """One connection that asks the next question as soon as it is answered."""

    def __init__(self, message: bytes, left: list[int], done: asyncio.Future[None]) -> None:
        self._message, self._left, self._done, self._size = message, left, done, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        if self._left[0] > 0:
            self._left[0] -= 1
            self._transport.write(self._message)

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        if self._size >= len(packet(REPLY)):
            self._size = 0
            self._left[1] -= 1
            if not self._left[1]:
                self._done.set_result(None)
            self._next()


async def directly(port: int, requests: int, in_flight: int) -> None:
    body = question(SAMPLING, Request("r", QUESTION, 1))
    message = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    left, done = [requests, requests], asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    transports = [(await loop.create_connection(lambda: Direct(message, left, done), "127.0.0.1", port))[0] for _ in range(in_flight)]
    await done
    for transport in transports:
        transport.close()


async def ours(port: int, requests: int, in_flight: int) -> None:
    source: Iterator[tuple[int, Request]] = ((i, Request(f"{i:032x}", QUESTION, i)) for i in range(requests))
    endpoint = EndpointSettings(url=f"http://127.0.0.1:{port}/v1")
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.jsonl") as journal:
        async with connect((endpoint,), None, SAMPLING, Patience(120, 8, 1), in_flight) as client:

            async def answered(_: int, answer: Answer) -> None:
                journal.add(answer)

            await client.ask_all(source, answered)
        if len(journal) != requests:
            raise SystemExit(f"{len(journal)} answers to {requests} requests")


async def bare_aiohttp(port: int, requests: int, in_flight: int) -> None:
    body, numbers = question(SAMPLING, Request("r", QUESTION, 1)), iter(range(requests))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for _ in numbers:
                async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", data=body) as reply:
                    await reply.read()

        await asyncio.gather(*(work() for _ in range(in_flight)))


async def openai_package(port: int, requests: int, in_flight: int) -> None:
    import openai

    numbers = iter(range(requests))
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:

        async def work() -> None:
            for i in numbers:
                await client.chat.completions.create(
                    model=MODEL,
                    messages=QUESTION,
                    temperature=0.8,
                    top_p=0.95,
                    max_tokens=512,
                    seed=i,  # type: ignore[arg-type]
                )

        await asyncio.gather(*(work() for _ in range(in_flight)))


Asker = Callable[[int, int, int], Awaitable[None]]


def timed(asker: Asker, port: int, requests: int, in_flight: int) -> tuple[float, float]:
    """(requests a second of wall time, requests a second of this process's processor time)."""
    start, spent = time.perf_counter(), time.process_time()
    asyncio.run(asker(port, requests, in_flight))  # type: ignore[arg-type]
    return requests / (time.perf_counter() - start), requests / (time.process_time() - spent)


class Running:
    """A server in a process of its own."""

    def __init__(self, latency: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(latency, theirs), daemon=True)
        self._process.start()
        self.port: int = self._pipe.recv()

    def load(self) -> list[tuple[float, int]]:
        """Changes of its load since last asked."""
        self._pipe.send(None)
        return self._pipe.recv()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def fullness(changes: list[tuple[float, int]], in_flight: int) -> tuple[float, float, float, float]:
    """(rate of answers, mean share of ``in_flight``, share of the time below 99 % of it) while it should have been full; seconds until it was."""
    last_taken = max(at for at, change in changes if change > 0)
    busy, before, begun = 0, 0.0, 0.0
    area = low = answers = 0.0
    for at, change in changes:
        if begun and at <= last_taken:
            area += busy * (at - before)
            low += (at - before) * (busy < 0.99 * in_flight)
            answers += change < 0
        busy += change
        before = at
        if not begun and busy >= in_flight:
            begun = at
    span = last_taken - begun
    return answers / span, area / span / in_flight, low / span, begun - changes[0][0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--in-flight", type=int, default=4096)
    parser.add_argument("--latency", type=float, default=4.0)
    options = parser.parse_args()
    askers: dict[str, Asker] = {"ours, with its journal": ours, "aiohttp alone": bare_aiohttp}
    try:
        import openai

        askers[f"openai {openai.__version__}"] = openai_package
    except ImportError:
        print("the openai package is not installed (pip install openai): left out")
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in askers}
    with Running(0) as server:
        for _ in range(options.rounds):
            for name, asker in askers.items():
                rates[name].append(timed(asker, server.port, options.requests if asker is not openai_package else options.requests // 4, 256))
    medians = {name: [statistics.median(values) for values in zip(*runs, strict=True)] for name, runs in rates.items()}
    base = medians["ours, with its journal"]
    print(f"a server that answers at once, 256 in flight, requests/s (median of {options.rounds}): wall, and by the client's processor time")
    for name, (wall, spent) in medians.items():
        ratios = f"ours is {base[0] / wall:.2f}x, {base[1] / spent:.2f}x"
        print(f"  {name:24} {wall:8.0f} {spent:8.0f}   {ratios}   {[round(run[0]) for run in rates[name]]}")
    print(f"a server that takes {options.latency:g} s, {options.in_flight} in flight")
    found: dict[str, list[tuple[float, float, float, float]]] = {"bare sockets": [], "ours, with its journal": []}
    with Running(options.latency) as server:
        for _ in range(options.rounds):
            for name, asker in (("bare sockets", directly), ("ours, with its journal", ours)):
                timed(asker, server.port, 5 * options.in_flight, options.in_flight)
                found[name].append(fullness(server.load(), options.in_flight))
    for name, runs in found.items():
        rate, mean, low, start = (statistics.median(values) for values in zip(*runs, strict=True))
        share = f"{100 * mean:.2f} % full on average, below 99 % for {100 * low:.2f} % of the time"
        print(f"  {name:24} {rate:8.1f} answers/s, {share}, full after {start:.1f} s")
    direct, own = (statistics.median(run[0] for run in found[name]) for name in found)
    print(f"  ours gets {100 * own / direct:.2f} % of what bare sockets get")


if __name__ == "__main__":
    main()
