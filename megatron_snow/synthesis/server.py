"""A real OpenAI-compatible server of our own: llama.cpp (xllamacpp) in a subprocess on a free loopback port.

    with local_server(settings) as (url, model): ...

The child is this module (``python -m megatron_snow.synthesis.server``). It prints its address when it is ready, and ends when its
standard input does: at the end of the ``with``, and as well when this process is killed. Started by hand with ``--host`` it serves until
it is ended: a small stand-in for vLLM where a batch script is to be tried.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
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
_READY = b"ready "


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
    command = [sys.executable, "-m", __spec__.name, str(path), "--name", name, "--threads", str(threads)]
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
        line = process.stdout.readline() if selector.select(timeout) else b""
    if line.startswith(_READY):
        return line.removeprefix(_READY).decode().strip() + "/v1"
    why = f"gave no sign in {timeout:g} seconds" if process.poll() is None and not line else "ended"
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


def _serve(arguments: argparse.Namespace) -> None:
    """In the child: serve until standard input ends, or where a host is given until the process is ended."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf_file(arguments.model))
    parameters.model_alias = {arguments.name}
    parameters.hostnames, parameters.port = [arguments.host or "127.0.0.1"], arguments.port
    parameters.n_parallel, parameters.n_ctx = arguments.slots, arguments.slots * arguments.context
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = arguments.threads
    parameters.n_gpu_layers, parameters.cache_ram_mib, parameters.ui, parameters.verbosity = 0, 0, False, 1
    server = xllamacpp.Server(parameters)
    sys.stdout.buffer.write(_READY + server.listening_address.encode() + b"\n")
    sys.stdout.buffer.flush()
    if arguments.host:
        signal.pause()  # SIGTERM ends the process as it ends any
    sys.stdin.buffer.read()
    os._exit(0)  # the server's own shutdown waits for answers that nobody will read


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve a GGUF model in the OpenAI format")
    parser.add_argument("model", help="fixture:SmolLM2-135M-Instruct, a GGUF file, or a folder with one")
    parser.add_argument("--name", required=True, help="what requests call the model")
    parser.add_argument("--host", default="", help="address to listen at, such as 0.0.0.0 (default: 127.0.0.1, until standard input ends)")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--slots", type=int, default=1, help="requests answered at one time")
    parser.add_argument("--context", type=int, default=2048, help="tokens of prompt and answer together")
    return parser.parse_args()


if __name__ == "__main__":
    _serve(_arguments())
