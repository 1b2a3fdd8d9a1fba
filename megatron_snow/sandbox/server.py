"""Many programs, side by side: through a fork server that stands for as long as they take (see ``zygote``).

A program run this way costs a few milliseconds of processor time instead of the 35 of a launcher and an interpreter of its own; what holds and what
does not is as in ``runner``, and besides: programs of one server are forks of one interpreter, so their address space layouts are alike.
"""

from __future__ import annotations

import array
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType

from megatron_snow.sandbox import launcher, runner, seccomp
from megatron_snow.sandbox.python import python
from megatron_snow.sandbox.runner import Kept, Result
from megatron_snow.sandbox.settings import SandboxSettings

_START = """import sys
sys.path.append(sys.argv[1])
import zygote
zygote.start(sys.argv[2:])
zygote.run_program()
"""


class Server:
    """A fork server for ``isolation: namespaces``; a context manager. Its programs end with it. Safe to use from several threads."""

    def __init__(self, environment: Path | None = None) -> None:
        """``environment``: see ``SandboxSettings``. Raises SnowError where the machine cannot isolate, or the environment is none."""
        chosen = python(environment)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        text = runner.environment(chosen.executable, launcher.PACKAGES if chosen.packages else "")
        variables = dict(pair.split("=", 1) for pair in text.split("\n"))
        command = [
            chosen.executable, "-s", "-P", "-S", "-B", "-c", _START, str(Path(__file__).parent), str(theirs.fileno()), seccomp.program().hex(),
            chosen.packages, *runner.readable(chosen),
        ]  # fmt: skip
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True,
                cwd="/", env=variables,
            )  # fmt: skip
        word = self._control.recv(4096).decode()
        if word != "ready":
            self.close()
            raise runner.refusal(word.removeprefix("error ") or "the server did not start")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the server and every program of it."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def run(self, program: str, settings: SandboxSettings, *, to_the_end: bool = False) -> Result:
        """As ``runner.run``."""
        mark = secrets.token_hex(16) if to_the_end else ""
        request = json.dumps([settings.timeout, settings.memory, settings.disk, settings.processes, mark]).encode()
        with ExitStack() as stack:
            pipes = [os.pipe() for _ in range(3)]
            readers = [stack.enter_context(os.fdopen(reader, "rb", buffering=0)) for reader, _ in pipes]
            text = os.memfd_create("program")
            given = [text, *(writer for _, writer in pipes)]
            try:
                with open(text, "wb", closefd=False) as file:
                    file.write(runner.with_mark(program, mark).encode("utf-8", errors="replace"))
                os.lseek(text, 0, os.SEEK_SET)
                self._control.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", given))])
            except OSError as error:
                raise RuntimeError("the sandbox's server is gone") from error
            finally:
                for descriptor in given:
                    os.close(descriptor)
            streams = dict(zip(readers, (Kept(settings.output), Kept(settings.output), Kept(2**14)), strict=True))
            runner.exchange(streams, self._process.kill, settings)  # type: ignore[arg-type]
        stdout, stderr, report = (kept.text() for kept in streams.values())
        return runner.judge(report, stdout, stderr, to_the_end)


def run_many(programs: Iterable[str], workers: int, settings: SandboxSettings | None = None, *, to_the_end: bool = False) -> Iterator[Result]:
    """Run programs side by side; yields their results in the programs' order. Takes programs as it goes, a few ahead.

    Raises SnowError where the machine cannot isolate and ``isolation: process`` was not asked for.
    """
    chosen = settings or SandboxSettings()
    source = iter(programs)
    with ExitStack() as stack:
        one: Callable[..., Result] = runner.run if chosen.isolation == "process" else stack.enter_context(Server(chosen.environment)).run
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=workers))

        def start(text: str) -> Future[Result]:
            return pool.submit(one, text, chosen, to_the_end=to_the_end)

        waiting = [start(text) for text in islice(source, 2 * workers)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting += [start(text) for text in islice(source, 1)]
        finally:
            for future in waiting:
                future.cancel()
