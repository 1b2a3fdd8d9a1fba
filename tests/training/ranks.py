"""Run a function on several gloo ranks: forked from a server that has imported torch and megatron once."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from megatron_snow.parallel.settings import Layout

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
_PRELOAD = ["pytest", "megatron_snow.training.loop", "megatron_snow.parallel.cpu", "tests.training.steps"]


def start(job: Callable, world: int, *arguments: Any) -> list[tuple[Any, Connection]]:
    """Start ``job(rank, world, rendezvous, *arguments)`` on every rank; (process, connection for its result) of each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    meeting = Path(tempfile.mkdtemp(prefix="snow-ranks-")) / "meeting"
    started = []
    for rank in range(world):
        ours, theirs = context.Pipe()
        process = context.Process(target=_run, args=(theirs, job, rank, world, f"file://{meeting}", *arguments))
        process.start()
        theirs.close()
        started.append((process, ours))
    return started


def run(job: Callable, world: int, *arguments: Any, seconds: float = 120) -> list[Any]:
    """The results of ``job`` by rank; an exception of a rank is raised here."""
    started = start(job, world, *arguments)
    try:
        results = [_answer(connection, seconds) for _, connection in started]
    except EOFError:
        results = [(False, "a rank died")]
    finally:
        for process, _ in started:
            process.join(5)
            process.kill()
    for fine, result in results:
        if not fine:
            raise result if isinstance(result, Exception) else AssertionError(result)
    return [result for _, result in results]


def _answer(connection: Connection, seconds: float) -> tuple[bool, Any]:
    if not connection.poll(seconds):
        return False, "no answer in time"
    return pickle.loads(connection.recv_bytes())  # noqa: S301 - from a rank of ours


def _run(connection: Connection, job: Callable, *arguments: Any) -> None:
    try:
        answer = pickle.dumps((True, job(*arguments)))  # by value: torch's own way of sending tensors needs this process to stay
    except Exception as error:
        keep = error if type(error).__module__.startswith("megatron_snow") else traceback.format_exc()
        answer = pickle.dumps((False, keep))
    connection.send_bytes(answer)
    connection.close()
    os._exit(0)  # peers of a failed rank would hang in their collectives


def joined(layout: Layout, rank: int, world: int, rendezvous: str) -> tuple[Any, Any]:
    """Start the CPU backend in this rank and open the groups: (backend, place)."""
    from megatron_snow.parallel.backend import choose_backend
    from megatron_snow.parallel.groups import open_groups

    backend = choose_backend(0)
    backend.start(1)
    place = open_groups(layout, backend, rank, world, rendezvous, 60)
    backend.seed(1)
    return backend, place
