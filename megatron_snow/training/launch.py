"""Start the ranks of a phase on this machine, watch them, and make one clear message of a failure.

The ranks meet through a file, so that no port has to be free, and hang on the launcher's end of a pipe, so that none
survives it. This does what ``torchrun --standalone`` would, but starts no agent (3 s of imports saved, every phase)
and knows what a rank's error means; under torchrun or Slurm the ranks join theirs instead (``worker``).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import megatron_snow
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.training.signals import STOPPING
from megatron_snow.training.spec import RunSpec
from megatron_snow.training.worker import BUG, FINISHED, MENDABLE, STOPPED

_GRACE = 10.0  # seconds for the other ranks to report after one has failed (ours: gloo notices a lost peer at once)
_POLL = 0.05  # seconds between looks at the ranks (ours)


@dataclass
class _Rank:
    number: int
    process: subprocess.Popen
    log: IO[bytes] | None


def launch(spec: RunSpec, processes: int) -> None:
    """Run a phase on ``processes`` ranks of this machine, to its end.

    Raises:
        SnowError: what a rank said is wrong, or that the run was stopped and saved.
        RuntimeError: with a rank's traceback, where a rank has a bug.
    """
    folder = spec.work / ".launch"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "spec.json"
    path.write_text(spec.model_copy(update={"rendezvous": f"file://{folder.absolute() / 'meeting'}"}).model_dump_json())
    ranks = [_start(path, number, processes, spec.threads) for number in range(processes)]
    try:
        with _forwarding(ranks):
            codes = _wait(ranks)
    finally:
        for rank in ranks:
            if rank.process.poll() is None:
                rank.process.kill()
            rank.process.wait()
            if rank.log:
                rank.log.close()
    _judge(folder, codes, spec)
    shutil.rmtree(folder)


def _start(spec: Path, number: int, processes: int, threads: int) -> _Rank:
    package = str(Path(megatron_snow.__file__).parents[1])
    environment = {
        **os.environ, "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # ranks share cores: a thread that waits must not spin on one
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }  # fmt: skip
    log = None if number == 0 else (spec.parent / f"rank-{number}.log").open("wb")  # the leader talks to the user
    command = [sys.executable, "-W", "ignore", "-m", "megatron_snow.training.worker", str(spec)]
    return _Rank(number, subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log), log)


def _wait(ranks: list[_Rank]) -> dict[int, int]:
    """Wait for all ranks, after a failure only ``_GRACE`` seconds more; rank -> exit code (-9 for those killed here)."""
    deadline: float | None = None
    while any(rank.process.poll() is None for rank in ranks):
        failed = any(rank.process.poll() not in (None, FINISHED, STOPPED) for rank in ranks)
        if failed and deadline is None:
            deadline = time.monotonic() + _GRACE
        if deadline is not None and time.monotonic() > deadline:
            for rank in ranks:
                if rank.process.poll() is None:
                    rank.process.kill()
        time.sleep(_POLL)
    return {rank.number: rank.process.wait() for rank in ranks}


@contextmanager
def _forwarding(ranks: list[_Rank]) -> Iterator[None]:
    """Pass SIGTERM, SIGINT and SIGUSR1 on to the ranks meanwhile: they finish their step, save and end."""

    def forward(number: int, frame: FrameType | None) -> None:
        for rank in ranks:
            if rank.process.poll() is None:
                rank.process.send_signal(signal.SIGTERM)

    before = {number: signal.signal(number, forward) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _judge(folder: Path, codes: dict[int, int], spec: RunSpec) -> None:
    if all(code == FINISHED for code in codes.values()):
        return
    errors = sorted((json.loads(path.read_text()) for path in folder.glob("error-*.json")), key=lambda error: error["time"])
    for error in errors:
        if error["mendable"]:
            raise SnowError(error["message"])
    killed = {rank: -code for rank, code in codes.items() if code < 0}
    if errors and not (killed and MENDABLE not in codes.values() and _looks_like_lost_peer(errors[0]["message"])):
        raise RuntimeError(f"a rank of phase {spec.phase} failed; its traceback:\n{errors[0]['trace']}")
    if all(code in (FINISHED, STOPPED) for code in codes.values()):
        raise SnowError(f"training of phase {spec.phase} was stopped by a signal and saved; run the same command again to go on")
    if killed:
        rank, number = next(iter(killed.items()))
        raise SnowError(
            f"rank {rank} of phase {spec.phase} was killed by signal {number} ({signal.Signals(number).name}; 9 is often a lack of memory): "
            "run the same command again to go on from the last checkpoint"
        )
    tail = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("rank-*.log")))
    raise RuntimeError(f"ranks of phase {spec.phase} ended with {codes} and no report ({BUG} is a bug)\n{tail}")


def _looks_like_lost_peer(message: str) -> bool:
    return any(sign in message for sign in ("Connection closed", "Connection reset", "Broken pipe", "timed out", "Timeout"))
