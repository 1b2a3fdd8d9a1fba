"""``python -m megatron_snow.training.nursery SPEC PROCESSES``: import once, fork the ranks, watch them.

torch and megatron take seconds to import, and several ranks on few cores pay that several times over; forked after
the import they start at once and share its memory. With a CUDA driver present the ranks are forked before the import:
CUDA does not survive a fork. ``codes.json`` beside the spec says how each rank ended.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from megatron_snow.parallel.backend import has_cuda_driver
from megatron_snow.training.signals import StopSignal
from megatron_snow.training.spec import RunSpec
from megatron_snow.training.worker import BUG, FINISHED, STOPPED, RankNumbers, run_and_report

_GRACE = 10.0  # seconds for the other ranks to report after one has failed (ours: gloo notices a lost peer at once)
_POLL = 0.05  # seconds between looks at the ranks (ours)


def main() -> None:
    """Start the ranks and wait for the last of them."""
    stop = StopSignal()
    stop.listen()  # from here on, through the import: the ranks inherit what was heard before the fork
    path, processes = Path(sys.argv[1]), int(sys.argv[2])
    spec = RunSpec.model_validate_json(path.read_bytes())
    if not has_cuda_driver():
        importlib.import_module("megatron_snow.training.loop")
    ranks = {_fork(spec, RankNumbers(number, processes, number), path.parent, stop): number for number in range(processes)}
    _end_with_launcher()
    codes = _wait(ranks, stop)
    with suppress(OSError):  # a full disk: the launcher sees that nothing was written
        (path.parent / "codes.json").write_text(json.dumps(codes))


def _fork(spec: RunSpec, numbers: RankNumbers, folder: Path, stop: StopSignal) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = BUG
    try:
        if numbers.rank:  # the leader talks to the user, the others to a file
            log = os.open(folder / f"rank-{numbers.rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
        _end_with_launcher()
        code = run_and_report(spec, numbers, folder, stop)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)  # an orderly exit would wait for peers that may hang in a collective


def _end_with_launcher() -> None:
    """The launcher holds the other end of standard input; when it is gone, however it went, this process must not train on."""

    def watch() -> None:
        while os.read(0, 1):
            continue
        os._exit(BUG)

    threading.Thread(target=watch, daemon=True).start()


def _wait(running: dict[int, int], stop: StopSignal) -> dict[int, int]:
    """Rank -> exit code, negative for a signal. A stop is passed on; after a failure the others get ``_GRACE`` seconds."""
    codes: dict[int, int] = {}
    deadline: float | None = None
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
            if deadline is None and not {*codes.values()} <= {FINISHED, STOPPED}:
                deadline = time.monotonic() + _GRACE
            continue
        if stop.requested:
            stop.requested = False
            for left in running:
                _signal(left, signal.SIGTERM)
        if deadline is not None and time.monotonic() > deadline:
            for left in running:
                _signal(left, signal.SIGKILL)
        time.sleep(_POLL)
    return codes


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has ended by itself


if __name__ == "__main__":
    main()
