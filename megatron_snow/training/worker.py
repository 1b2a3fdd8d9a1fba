"""One rank of a run, whoever started it: ``nursery`` on this machine, torchrun or srun anywhere.

The module's top is light on purpose; torch and megatron are imported when the rank starts to work. A rank that fails
leaves ``error-RANK.json`` beside the spec, so that whoever started the ranks can make one message of them.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.errors import LostRank, SnowError, Stopped
from megatron_snow.artifacts.output import last_words
from megatron_snow.parallel.backend import has_cuda_driver
from megatron_snow.training.cluster import device_index
from megatron_snow.training.heartbeat import Heartbeat
from megatron_snow.training.signals import StopSignal
from megatron_snow.training.spec import RunSpec

FINISHED, BUG, MENDABLE, STOPPED, LOST = 0, 1, SnowError.exit_code, Stopped.exit_code, LostRank.exit_code
"""Exit codes: the phase is finished; our fault; the user can mend it; stopped by a signal after saving; another rank is dead or hung.

After ``STOPPED`` and ``LOST`` the same command goes on from the last checkpoint: a batch script requeues on them.
"""

LOST_PEER = ("Connection closed", "Connection reset", "Broken pipe", "imed out", "imeout")
"""What gloo and nccl say on ranks whose peer has gone: not the cause."""

HEARTBEAT = ".heartbeat"
"""The folder within a training folder where the ranks' beats are, while they run."""

_RESERVED_STEPS = 0xFFFFFFF0  # Slurm's SLURM_MAX_NORMAL_STEP_ID (slurm.h); above it: batch script, salloc's shell, ...


_PATIENCE = 1.5  # collectives wait so much longer than ``train.timeout`` (ours): the heartbeat, which can name the rank, must speak first


@dataclass(frozen=True)
class RankNumbers:
    """Which of how many processes this is."""

    rank: int
    world: int
    local_rank: int


def numbers_from_environment() -> RankNumbers | None:
    """What torchrun (RANK, WORLD_SIZE, LOCAL_RANK) or Slurm's srun (SLURM_PROCID, ...) says; None for a process started by hand.

    Slurm gives its variables to the batch script too, which is no rank: only a step that srun started counts.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return RankNumbers(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", 0)))
    if _inside_step() and int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ:
        return RankNumbers(int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_LOCALID", 0)))
    return None


def _inside_step() -> bool:
    """Whether srun started this process; the batch script and salloc's shell have no step id, a word, or a reserved number."""
    step = os.environ.get("SLURM_STEP_ID", "")
    return step.isdecimal() and int(step) < _RESERVED_STEPS


def run_rank(spec: RunSpec, numbers: RankNumbers, stop: StopSignal, hung: Callable[[str], None] | None = None) -> bool:
    """Train this rank's part of a phase; returns whether the phase is finished (False: stopped by a signal, saved).

    Where a rank hangs, ``hung`` gets a message that names it, in a thread, and must end the process; by default it prints and exits.
    """
    with Heartbeat(spec.work / HEARTBEAT, numbers.rank, numbers.world, spec.train.timeout, hung or _print_and_leave) as heartbeat:
        return _run_rank(spec, numbers, stop, heartbeat)


def _run_rank(spec: RunSpec, numbers: RankNumbers, stop: StopSignal, heartbeat: Heartbeat) -> bool:
    from megatron_snow.parallel.backend import choose_backend

    backend = choose_backend(own_device(numbers.local_rank))
    backend.check_precision(spec.train.precision, spec.train.fp8)
    backend.start(spec.threads)
    from megatron_snow.parallel.groups import close_groups, open_groups
    from megatron_snow.training.loop import run_phase

    heartbeat.at("meeting the other ranks")
    patience = spec.train.timeout * _PATIENCE
    place = open_groups(spec.layout, backend, numbers.rank, numbers.world, spec.rendezvous, patience, purpose=spec.phase)
    backend.seed(spec.seed)
    finished = run_phase(spec, backend, place, stop, heartbeat.at) == spec.settings.steps
    stop.relax()
    close_groups()
    return finished


def _print_and_leave(message: str) -> None:
    last_words(f"{message}: run the same command again to go on from the last checkpoint", LOST)
    os._exit(LOST)


def own_device(local_rank: int) -> int:
    """The index of this rank's GPU among those it sees; the local rank itself where there is none."""
    if not has_cuda_driver():
        return local_rank
    import torch

    return device_index(local_rank, torch.cuda.device_count()) if torch.cuda.is_available() else local_rank


def run_and_report(spec: RunSpec, numbers: RankNumbers, reports: Path, stop: StopSignal) -> int:
    """Run a rank to its exit code; an error goes into ``reports``."""

    def leave(code: int, message: str, trace: str) -> int:
        report = {"mendable": code not in (BUG, LOST), "lost": code == LOST, "message": message, "trace": trace, "time": time.time()}
        with suppress(OSError):  # a full disk: the launcher sees that
            (reports / f"error-{numbers.rank}.json").write_text(json.dumps(report))
        return code

    def hung(message: str) -> None:
        os._exit(leave(LOST, message, ""))

    try:
        return FINISHED if run_rank(spec, numbers, stop, hung) else STOPPED
    except Exception as error:
        return leave(MENDABLE if isinstance(error, SnowError) else BUG, str(error), traceback.format_exc())
