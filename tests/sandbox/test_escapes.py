"""Nothing gets out, nothing hangs, and what comes next is unaffected: every program of the corpus, both ways of running one."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from megatron_snow.sandbox import Result, SandboxSettings, Server, run, run_many
from tests.sandbox.escapes import corpus
from tests.sandbox.test_runner import processes_with

LIMITS = SandboxSettings(timeout=2.0, memory="256MiB", disk="8MiB", processes=16)
HONEST = "import json, os\nassert os.listdir('/tmp') == ['program.py'] and os.listdir('/dev/shm') == []\nassert json.loads('[1]') == [1]\nprint('fine')"
LATE = 45.0  # seconds for one program on a busy machine: its 2 seconds, and the start of an interpreter with seven other projects beside it


@pytest.mark.parametrize("way", ["server", "launcher"])
def test_no_escape_no_hang_and_the_next_program_is_unaffected(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "hunter2")
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    abstract, marker = f"snow-{os.getpid()}", f"survivor-{way}-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as named:
        named.bind(f"\0{abstract}")
        named.listen()
        programs = corpus(str(secret), server.getsockname()[1], abstract, marker)
        texts = [text for program in programs.values() for text in (program, HONEST)]
        start = time.monotonic()
        results = list(run_many(texts, 8, LIMITS)) if way == "server" else _each(texts)
        assert time.monotonic() - start < LATE * len(programs)
    for name, attack, honest in zip(programs, results[::2], results[1::2], strict=True):
        assert "ESCAPED" not in attack.stdout, (name, attack.stdout)
        assert attack.seconds < LATE, name
        assert len(attack.stdout) + len(attack.stderr) < 3 * LIMITS.output, name
        assert (honest.status, honest.stdout) == ("passed", "fine\n"), (name, honest)
    assert processes_with(marker) == []
    assert secret.read_text() == "hunter2" and os.listdir(tmp_path) == ["secret"]


def _each(texts: list[str]) -> list[Result]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda text: run(text, LIMITS), texts))


def test_limits_are_called_by_their_names() -> None:
    with Server() as server:
        found = {
            name: server.run(text, LIMITS).status
            for name, text in corpus("/nowhere", 1, "nowhere", "nobody").items()
            if name in {"memory bomb", "memory bomb of many", "sleeper", "busy loop", "kills the interpreter", "disk filler", "background thread at exit"}
        }
    assert found == {
        "memory bomb": "memory", "memory bomb of many": "memory", "sleeper": "timeout", "busy loop": "timeout", "kills the interpreter": "killed",
        "disk filler": "failed", "background thread at exit": "timeout",
    }  # fmt: skip
