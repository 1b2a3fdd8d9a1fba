"""Run an untrusted Python program once, with limits, and say how it ended.

The program becomes a process in its own user (or, for root, as a user nobody has), process, mount, network, IPC and host-name
namespaces, with a system call filter and rlimits, on an empty file system in memory that shows the Python installation and
``/usr`` read-only. When its first process ends or a limit strikes, the kernel kills all that is left in its process namespace.

Covered: reading or writing the caller's files, its environment, processes and terminal; the network, also a machine's own loopback;
fork bombs, memory bombs, full disks, output floods, sleepers, daemons; kernel interfaces that sandboxes are usually left through.
Not covered: bugs of the kernel itself; what lies below ``/usr`` and the Python installation can be read; processor time is shared with
the machine, so a wall-time limit can strike earlier on a busy one; several processes can overshoot ``memory`` for up to 20 ms together.
With ``isolation: process`` only the rlimits and the time-out hold.
"""

from __future__ import annotations

import os
import secrets
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.sandbox import launcher, seccomp
from megatron_snow.sandbox.python import Python, python
from megatron_snow.sandbox.settings import SandboxSettings

Status = Literal["passed", "failed", "timeout", "memory", "processes", "killed"]
_GRACE = 30.0  # seconds beyond the time-out before the launcher itself is given up (ours: a start takes 20 ms, a starved machine much longer)
_START = "import sys; sys.path.append(sys.argv[1]); import launcher; launcher.main(sys.argv[2:])"  # imported, not run as a script: compiled once
_DEVICES = ("null", "zero", "full", "random", "urandom")


@dataclass(frozen=True)
class Result:
    """How a program ended."""

    status: Status
    """``passed``: exit code 0 (and its last line was reached, where asked for); ``failed``: another exit code; ``memory``, ``processes``,
    ``timeout``: a limit; ``killed``: by a signal (a crash, or the machine's own out-of-memory killer)."""
    exit_code: int
    """Negative: the signal's number."""
    stdout: str
    stderr: str
    seconds: float
    """Wall time from the program's start to its end."""


@dataclass(frozen=True)
class Capabilities:
    """What this machine allows."""

    namespaces: bool
    reason: str
    """Why not, where ``namespaces`` is false; else empty."""
    call_filter: bool
    """Whether system calls are filtered (x86_64 and aarch64)."""


class Kept:
    """The first and the last bytes of a stream."""

    def __init__(self, size: int) -> None:
        self._half, self._head, self._tail, self._dropped = size // 2, bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if (extra := len(self._tail) - self._half) > 0:
            del self._tail[:extra]
            self._dropped += extra

    def text(self) -> str:
        gap = f"\n[... {self._dropped} bytes left out ...]\n".encode() if self._dropped else b""
        return (bytes(self._head) + gap + bytes(self._tail)).decode("utf-8", errors="replace")


def readable(installation: Python) -> list[str]:
    """What the program sees of this machine, besides its own empty folders and the packages."""
    top = [f"/{name}" for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32") if os.path.lexists(f"/{name}")]
    own = [] if Path(installation.prefix).is_relative_to("/usr") else [installation.prefix]
    return ["/usr", *top, *own, "/etc/ld.so.cache", *(f"/dev/{name}" for name in _DEVICES)]


def environment(executable: str, packages: str = "") -> str:
    """All the program gets. A fixed hash seed: the same program, the same result. ``packages``: where it finds them, and nltk's data among them."""
    path = f"{os.path.dirname(executable)}:/usr/bin:/bin"
    pairs = {"PATH": path, "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    pairs |= {"PYTHONPATH": packages, "NLTK_DATA": f"{packages}/nltk_data"} if packages else {}
    return "\n".join(f"{name}={value}" for name, value in pairs.items())


def _command(settings: SandboxSettings, status: int, mark: str) -> list[str]:
    namespaces, chosen = settings.isolation == "namespaces", python(settings.environment)
    call_filter = seccomp.program().hex() if namespaces else ""
    variables = environment(chosen.executable, launcher.PACKAGES if namespaces and chosen.packages else chosen.packages)
    return [
        chosen.executable, "-I", "-S", "-c", _START, os.path.dirname(launcher.__file__), str(status), settings.isolation, repr(settings.timeout),
        str(settings.memory), str(settings.disk), str(settings.processes), mark, call_filter, chosen.executable, variables, chosen.packages,
        *readable(chosen),
    ]  # fmt: skip


def exchange(streams: dict[IO[bytes], Kept], give_up: Callable[[], None], settings: SandboxSettings, feed: tuple[IO[bytes], bytes] | None = None) -> None:
    """Read the streams to their ends, and write ``feed`` (stream, data) meanwhile; ``give_up`` is called where nothing ends long after the time-out."""
    deadline = time.monotonic() + settings.timeout + _GRACE
    rest = memoryview(feed[1] if feed else b"")
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        if feed:
            os.set_blocking(feed[0].fileno(), False)
            selector.register(feed[0], selectors.EVENT_WRITE)
        while selector.get_map():
            if time.monotonic() > deadline:
                give_up()
            for key, _ in selector.select(1.0):
                if feed and key.fileobj is feed[0]:
                    try:
                        rest = rest[os.write(key.fd, rest[:65536]) :]
                    except BrokenPipeError:  # the launcher is gone; what it said is read below
                        rest = rest[:0]
                    if not rest:
                        selector.unregister(feed[0])
                        feed[0].close()
                elif data := os.read(key.fd, 65536):
                    streams[key.fileobj].add(data)  # type: ignore[index]
                else:
                    selector.unregister(key.fileobj)


def refusal(reason: str) -> SnowError:
    return SnowError(
        f"cannot isolate untrusted code on this machine ({reason}); allow user namespaces (sysctl user.max_user_namespaces, "
        "kernel.apparmor_restrict_unprivileged_userns=0), run the container with SYS_ADMIN, or set sandbox.isolation to process: "
        "only rlimits and a time-out; untrusted code can read your files and reach the network"
    )


def with_mark(program: str, mark: str) -> str:
    """The program, made to write the mark (if any) when it reaches its end."""
    return f"{program}\n\n__import__('os').write({launcher.END_DESCRIPTOR}, b'{mark}')\n" if mark else program


def run(program: str, settings: SandboxSettings | None = None, *, to_the_end: bool = False) -> Result:
    """Run ``program`` (Python source, as ``__main__``) and wait for its end.

    ``to_the_end``: passed only if the program's last line was reached, so that code under test cannot pass by leaving early
    (``sys.exit()`` before the assertions). Code that means to cheat could still find and write the mark; nothing stops that in one process.
    Raises SnowError where the machine cannot isolate and ``isolation: process`` was not asked for. Safe to call from several threads.
    """
    settings = settings or SandboxSettings()
    mark = secrets.token_hex(16) if to_the_end else ""
    program = with_mark(program, mark)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="snow-")) if settings.isolation == "process" else None
        reader, writer = os.pipe()
        status = stack.enter_context(os.fdopen(reader, "rb", buffering=0))
        try:
            process = subprocess.Popen(
                _command(settings, writer, mark), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, pass_fds=(writer,),
                start_new_session=True, cwd=folder or "/", env={},
            )  # fmt: skip
        finally:
            os.close(writer)
        with process:
            try:
                assert process.stdin is not None and process.stdout is not None and process.stderr is not None
                streams = {process.stdout: Kept(settings.output), process.stderr: Kept(settings.output), status: Kept(2**14)}
                exchange(streams, process.kill, settings, (process.stdin, program.encode("utf-8", errors="replace")))
            except BaseException:
                process.kill()
                raise
    stdout, stderr, report = (kept.text() for kept in streams.values())
    return judge(report, stdout, stderr, to_the_end)


def judge(report: str, stdout: str, stderr: str, to_the_end: bool) -> Result:
    if report.startswith("error "):
        raise refusal(report.removeprefix("error "))
    if report.startswith("bug "):
        raise RuntimeError(f"the sandbox itself failed: {report.removeprefix('bug ')}")
    if not report:  # somebody killed the launcher: the machine's out-of-memory killer, or our own last deadline
        return Result("killed", -launcher.SIGKILL, stdout, stderr, 0.0)
    word, code, seconds, reached = report.split()
    status: Status = word  # type: ignore[assignment]
    if status == "passed" and to_the_end and reached == "0":
        return Result("failed", 0, stdout, stderr + "\nthe program ended before its last line\n", float(seconds))
    lines = stderr.strip().splitlines()
    if status == "failed" and lines and lines[-1].startswith("MemoryError"):
        status = "memory"
    return Result(status, int(code), stdout, stderr, float(seconds))


def check_isolation() -> None:
    """Raises SnowError, with what to do, where this machine cannot isolate a program."""
    run("")


def capabilities() -> Capabilities:
    """Try the sandbox on an empty program."""
    call_filter = bool(seccomp.program())
    try:
        check_isolation()
    except SnowError as error:
        return Capabilities(False, str(error), call_filter)
    return Capabilities(True, "", call_filter)
