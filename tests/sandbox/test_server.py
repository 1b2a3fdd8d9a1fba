"""The fork server: a program ends as it does in an interpreter of its own, and nothing is left when the server or the caller goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from megatron_snow.sandbox import SandboxSettings, Server, run
from tests.sandbox.escapes import programs
from tests.sandbox.test_runner import processes_with

QUICK = SandboxSettings(timeout=60)
ENDINGS = programs("endings.txt")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as found:
        yield found


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_ends_as_it_does_in_an_interpreter_of_its_own(name: str, server: Server) -> None:
    theirs, ours = run(ENDINGS[name], QUICK), server.run(ENDINGS[name], QUICK)
    assert (ours.status, ours.exit_code, ours.stdout) == (theirs.status, theirs.exit_code, theirs.stdout)
    assert ours.stderr.splitlines()[-1:] == theirs.stderr.splitlines()[-1:]
    if name in ("fails", "is no Python", "has a main that raises through"):
        assert ours.stderr == theirs.stderr


def test_reaching_the_end_is_seen(server: Server) -> None:
    for text, status in (("x = 1", "passed"), ("import sys\nsys.exit(0)", "failed"), ("import os\nos._exit(0)", "failed"), ("assert False", "failed")):
        assert server.run(text, QUICK, to_the_end=True).status == status


def test_two_random_programs_differ(server: Server) -> None:
    assert len({server.run("import random\nprint(random.random())", QUICK).stdout for _ in range(3)}) == 3


def test_nothing_is_left_when_the_server_or_the_caller_goes() -> None:
    marker = f"orphan-of-server-{os.getpid()}"
    program = f"import os\nos.execve('/bin/sleep', ['{marker}', '300'], {{}})"
    text = f"from megatron_snow.sandbox import Server, SandboxSettings\nServer().run({program!r}, SandboxSettings(timeout=300))"
    caller = subprocess.Popen([sys.executable, "-c", text])
    try:
        deadline = time.monotonic() + 60
        while not processes_with(marker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_with(marker)
        caller.send_signal(signal.SIGKILL)
        caller.wait()
        while processes_with(marker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_with(marker) == []
    finally:
        caller.kill()


def test_a_server_that_is_gone_says_so() -> None:
    with Server() as server:
        assert server.run("print(1)", QUICK).stdout == "1\n"
        server._process.kill()
        server._process.wait()
        time.sleep(0.2)
        with pytest.raises(RuntimeError, match="server is gone"):
            server.run("print(1)", QUICK)
