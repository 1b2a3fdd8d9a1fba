"""Run a phase on ranks of this machine and make one clear message of a failure.

The ranks meet through a file, so that no port has to be free, and hang on the launcher's end of a pipe, so that none
survives it. This does what ``torchrun --standalone`` would, but imports once instead of once a rank (``nursery``) and
knows what a rank's error means; where ``train_phase`` is called under torchrun or srun the ranks are theirs instead (``worker``).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import megatron_snow
from megatron_snow.artifacts.errors import LostRank, SnowError, Stopped
from megatron_snow.parallel.backend import has_cuda_driver
from megatron_snow.training.signals import STOPPING
from megatron_snow.training.spec import RunSpec
from megatron_snow.training.worker import FINISHED, LOST_PEER, STOPPED

LAUNCH = ".launch"
"""The folder within a training folder where launcher and ranks meet, while they run."""


def launch(spec: RunSpec, processes: int) -> None:
    """Run a phase on ``processes`` ranks of this machine, to its end.

    Raises:
        SnowError: what a rank said is wrong.
        Stopped: where a signal ended the run and it was saved.
        LostRank: where a rank was killed, or hung.
        RuntimeError: with a rank's traceback, where a rank has a bug.
    """
    folder = spec.work / LAUNCH
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "spec.json"
    path.write_text(spec.model_copy(update={"rendezvous": f"file://{folder.absolute() / 'meeting'}"}).model_dump_json())
    command = [sys.executable, "-W", "ignore", "-m", "megatron_snow.training.nursery", str(path), str(processes)]
    nursery = subprocess.Popen(command, env=_environment(spec.threads), stdin=subprocess.PIPE)
    with nursery, _forwarding(nursery):  # leaving the first closes the pipe that the ranks hang on
        code = nursery.wait()
    codes = folder / "codes.json"
    if code == -signal.SIGKILL:
        raise LostRank(f"phase {spec.phase} was killed (often for a lack of memory): run the same command again to go on from the last checkpoint")
    if any(path.stat().st_size == 0 for path in folder.glob("*.json")):  # written, and no byte of it found room
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    if not codes.exists():
        raise RuntimeError(f"the process that starts the ranks ended with {code} before they did; its message is above")
    _judge(folder, {int(rank): code for rank, code in json.loads(codes.read_text()).items()}, spec.phase)
    shutil.rmtree(folder)


def _environment(threads: int) -> dict[str, str]:
    package = str(Path(megatron_snow.__file__).parents[1])
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        **({} if has_cuda_driver() else {"TORCHDYNAMO_DISABLE": "1"}),  # nothing is compiled on a CPU; spares a second of imports
        "OMP_WAIT_POLICY": "PASSIVE",  # ranks share cores: a thread that waits must not spin on one
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }


@contextmanager
def _forwarding(nursery: subprocess.Popen) -> Iterator[None]:
    """Pass stop signals on meanwhile: the ranks finish their step, save and end."""

    def forward(number: int, frame: FrameType | None) -> None:
        if nursery.poll() is None:
            nursery.send_signal(signal.SIGTERM)

    listening = STOPPING if threading.current_thread() is threading.main_thread() else ()  # Python hears signals there only
    before = {number: signal.signal(number, forward) for number in listening}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _judge(folder: Path, codes: dict[int, int], phase: str) -> None:
    """Raise what the ranks' ends mean: an error with a remedy first, then the first cause."""
    if all(code == FINISHED for code in codes.values()):
        return
    if all(code in (FINISHED, STOPPED) for code in codes.values()):
        raise Stopped(f"training of phase {phase} was stopped by a signal and saved; run the same command again to go on")
    errors: list[dict[str, Any]] = sorted((json.loads(path.read_text()) for path in folder.glob("error-*.json")), key=lambda error: error["time"])
    for error in errors:
        if error["mendable"]:
            raise SnowError(error["message"])
    for error in errors:
        if error.get("lost"):
            raise LostRank(f"phase {phase}: {error['message']}: run the same command again to go on from the last checkpoint")
    causes = [error for error in errors if not any(sign in error["message"] for sign in LOST_PEER)]
    killed = {rank: -code for rank, code in codes.items() if code < 0}
    if killed and not causes:
        rank, number = min(killed.items())
        raise LostRank(
            f"rank {rank} of phase {phase} was killed by signal {number} ({signal.Signals(number).name}; 9 is often a lack of memory): "
            "run the same command again to go on from the last checkpoint"
        )
    if errors:
        raise RuntimeError(f"a rank of phase {phase} failed:\n{(causes or errors)[0]['trace']}")
    logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("rank-*.log")))
    raise RuntimeError(f"ranks of phase {phase} ended with {codes} and no report\n{logs}")
