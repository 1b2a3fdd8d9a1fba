"""A real OpenAI-compatible server of our own: llama.cpp (xllamacpp) in a subprocess on a free loopback port.

    with local_server(settings) as (url, model): ...

The child is ``llama_server``, which prints its address when it is ready, and ends when its standard input does: at the end of
the ``with``, and as well when this process is killed.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import PREFIX, fixture
from megatron_snow.artifacts.progress import say
from megatron_snow.synthesis.settings import LocalServerSettings

_MOST_THREADS = 4  # ours: what a model of 135M parameters can use
READY = b"ready "
"""What the child's first line begins with; its address follows."""
_CHILD = "megatron_snow.synthesis.llama_server"


def gguf_file(reference: str) -> Path:
    """The one GGUF file that ``reference`` (fixture, file or folder) names. Raises SnowError where there is none, or more than one."""
    path = fixture(reference.removeprefix(PREFIX)) if reference.startswith(PREFIX) else Path(reference)
    if path.is_file():
        return path
    found = sorted(path.glob("*.gguf")) if path.is_dir() else []
    if len(found) != 1:
        has = f"has {len(found)}" if path.is_dir() else "does not exist"
        raise SnowError(f"synthesize.local: one GGUF file is needed, {path} {has}; name a .gguf file, a folder with one, or fixture:SmolLM2-135M-Instruct")
    return found[0]


def model_name(settings: LocalServerSettings) -> str:
    """What the server calls its model."""
    return settings.model.removeprefix(PREFIX) if settings.model.startswith(PREFIX) else Path(settings.model).stem


@contextmanager
def local_server(settings: LocalServerSettings) -> Iterator[tuple[str, str]]:
    """Start the server, wait until it is ready, yield (base URL, model name), stop it. Raises SnowError where it does not start."""
    path = gguf_file(settings.model)
    name = model_name(settings)
    threads = settings.threads or min(_MOST_THREADS, os.cpu_count() or 1)
    command = [sys.executable, "-m", _CHILD, str(path), "--name", name, "--threads", str(threads)]
    command += ["--slots", str(settings.slots), "--context", str(settings.context)]
    # llama.cpp's threads wait for each other by spinning: without a bound all progress stops on cores that do something else as well, without
    # any spinning an idle machine is a third slower. 2,000 rounds cost little on either (ours, LOG.md 2026-11-23).
    environment = os.environ | {"GOMP_SPINCOUNT": "2000"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True, bufsize=0)
        try:
            url = _wait_until_ready(process, settings.start_timeout, log, path)
            say(f"  {name} answers at {url} ({threads} threads, {settings.slots} requests at one time)")
            yield url, name
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], timeout: float, log: IO[bytes], path: Path) -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        spoke = bool(selector.select(timeout))
    line = process.stdout.readline() if spoke else b""
    if line.startswith(READY):
        return line.removeprefix(READY).decode().strip() + "/v1"
    why = "ended" if spoke else f"gave no sign in {timeout:g} seconds"
    log.seek(0)
    last = (log.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
    raise SnowError(f"the local server with {path} {why} ({last}); check that the file is a GGUF model, or raise synthesize.local.start_timeout")


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
