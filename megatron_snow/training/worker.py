"""One rank of a run, whoever started it: ``nursery`` on this machine, torchrun or srun anywhere.

The module's top is light on purpose; torch and megatron are imported when the rank starts to work. A rank that fails
leaves ``error-RANK.json`` beside the spec, so that whoever started the ranks can make one message of them.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from megatron_snow.artifacts.errors import LostRank, SnowError, Stopped
from megatron_snow.parallel.backend import has_cuda_driver
from megatron_snow.training.cluster import device_index
from megatron_snow.training.signals import StopSignal
from megatron_snow.training.spec import RunSpec

FINISHED, BUG, MENDABLE, STOPPED, LOST = 0, 1, SnowError.exit_code, Stopped.exit_code, LostRank.exit_code
"""Exit codes: the phase is finished; our fault; the user can mend it; stopped by a signal after saving; another rank is dead or hung.

After ``STOPPED`` and ``LOST`` the same command goes on from the last checkpoint: a batch script requeues on them.
"""

LOST_PEER = ("Connection closed", "Connection reset", "Broken pipe", "imed out", "imeout")
"""What gloo and nccl say on ranks whose peer has gone: not the cause."""

_RESERVED_STEPS = 0xFFFFFFF0  # Slurm's SLURM_MAX_NORMAL_STEP_ID (slurm.h); above it: batch script, salloc's shell, ...


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


def run_rank(spec: RunSpec, numbers: RankNumbers, stop: StopSignal) -> bool:
    """Train this rank's part of a phase; returns whether the phase is finished (False: stopped by a signal, saved)."""
    from megatron_snow.parallel.backend import choose_backend

    backend = choose_backend(own_device(numbers.local_rank))
    backend.check_precision(spec.train.precision, spec.train.fp8)
    backend.start(spec.threads)
    from megatron_snow.parallel.groups import close_groups, open_groups
    from megatron_snow.training.loop import run_phase

    place = open_groups(spec.layout, backend, numbers.rank, numbers.world, spec.rendezvous, spec.train.timeout, purpose=spec.phase)
    backend.seed(spec.seed)
    finished = run_phase(spec, backend, place, stop) == spec.settings.steps
    close_groups()
    return finished


def own_device(local_rank: int) -> int:
    """The index of this rank's GPU among those it sees; the local rank itself where there is none."""
    if not has_cuda_driver():
        return local_rank
    import torch

    return device_index(local_rank, torch.cuda.device_count()) if torch.cuda.is_available() else local_rank


def run_and_report(spec: RunSpec, numbers: RankNumbers, reports: Path, stop: StopSignal) -> int:
    """Run a rank to its exit code; an error goes into ``reports``."""
    try:
        return FINISHED if run_rank(spec, numbers, stop) else STOPPED
    except Exception as error:
        mendable = isinstance(error, SnowError)
        report = {"mendable": mendable, "message": str(error), "trace": traceback.format_exc(), "time": time.time()}
        (reports / f"error-{numbers.rank}.json").write_text(json.dumps(report))
        return MENDABLE if mendable else BUG
