"""Worker processes that answer in order, with bounded memory, and end when their parent does.

Task i goes to worker i mod n, which answers in order, so reading the workers in turn is the original order. Each worker has a
pipe of its own and a thread that keeps reading it: a killed parent closes the pipe and the workers end (the standard
library's executors leave theirs behind), and neither side can block the other.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from megatron_snow.artifacts.errors import SnowError

Task = TypeVar("Task")
Answer = TypeVar("Answer")
AHEAD = 4  # tasks each worker holds or has answered and we have not read (ours: hides one long task behind the others)


def cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes(Generic[Task, Answer]):
    """The processes, fed and read in turn.

    ``make`` is called once in each and returns the function that answers a task; it travels by pickle, so it is a function
    of a module or a ``partial`` of one. ``name``: what a process is called where one dies.
    """

    def __init__(self, make: Callable[[], Callable[[Task], Answer]], count: int, name: str) -> None:
        context = multiprocessing.get_context("spawn")  # fork would copy our threads' locks
        self._members: list[tuple[BaseProcess, Connection]] = []
        self._sent = self._received = 0
        self._name = name
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(make, theirs), daemon=True)
            process.start()
            theirs.close()
            self._members.append((process, ours))

    def __enter__(self) -> Processes[Task, Answer]:
        return self

    def __exit__(self, *_: object) -> None:
        for _process, connection in self._members:
            connection.close()
        for process, _connection in self._members:
            process.join(timeout=5)
            if process.is_alive():  # in the middle of a long task nobody waits for
                process.kill()
                process.join()

    @property
    def room(self) -> int:
        """Tasks that can be sent before one must be received."""
        return len(self._members) * AHEAD - (self._sent - self._received)

    def send(self, task: Task) -> None:
        """Give out a task. Raises SnowError where its worker is dead."""
        process, connection = self._members[self._sent % len(self._members)]
        self._sent += 1
        try:
            connection.send(task)
        except OSError as error:
            raise self._died(process) from error

    def receive(self) -> Answer:
        """The answer to the oldest task not received yet. Raises what the worker raised, or SnowError where it was killed."""
        process, connection = self._members[self._received % len(self._members)]
        self._received += 1
        try:
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise self._died(process) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def map(self, tasks: Iterable[Task]) -> Iterator[Answer]:
        """Answers in the order of ``tasks``, which is read only a few ahead."""
        waiting: deque[None] = deque()
        for task in tasks:
            if self.room <= 0:
                waiting.popleft()
                yield self.receive()
            self.send(task)
            waiting.append(None)
        for _ in waiting:
            yield self.receive()

    def _died(self, process: BaseProcess) -> SnowError:
        process.join(timeout=5)
        return SnowError(
            f"{self._name} process ended early (exit code {process.exitcode}; -9 is a kill, mostly for want of memory): "
            "free memory or use fewer workers, then run again"
        )


def _work(make: Callable[[], Callable[[Any], Any]], connection: Connection) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    inbox: queue.SimpleQueue[tuple[Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, inbox), daemon=True).start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the parent is gone
        answer = make()
        while (task := inbox.get()) is not None:
            try:
                connection.send(answer(*task))
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:
                connection.send(error)


def _read(connection: Connection, inbox: queue.SimpleQueue[tuple[Any] | None]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            inbox.put((connection.recv(),))
    inbox.put(None)
