"""The train arrow: one phase, from what the phase before left to a published checkpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError, Stopped
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.checkpoint.store import latest, read_description
from megatron_snow.model.settings import ModelSettings, padded_vocabulary, parameters
from megatron_snow.parallel.backend import has_cuda_driver
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.launch import launch
from megatron_snow.training.records import METRICS, VALIDATION, read_rows
from megatron_snow.training.samples import phase_samples, validation_samples
from megatron_snow.training.settings import TrainSettings
from megatron_snow.training.signals import StopSignal
from megatron_snow.training.spec import RunSpec
from megatron_snow.training.worker import RankNumbers, numbers_from_environment, run_rank


def train_phase(
    settings: TrainSettings, phase: str, model: ModelSettings, layout: Layout, seed: int, tokens: Path, tokenizer: Path, previous: Path | None, work: Path
) -> dict[str, Any]:
    """Train one phase; resumes from the newest whole checkpoint in ``work``, starts from ``previous``'s last one otherwise.

    Writes ``work/checkpoints/step-*``, ``metrics.jsonl`` (a row a step: step, tokens, loss, learning_rate, gradient_norm,
    tokens_per_second, seconds), ``validation.jsonl`` (step, tokens, tier, loss) and ``summary.json``: phase, parameters,
    vocabulary (padded), steps, tokens, passes (tier -> how often its documents were seen), loss (last step),
    validation (tier -> last loss), seconds (in steps), tokens_per_second. Returns the summary.

    The ranks are started here, as many as the layout takes. Several machines join by calling this function, with the same
    arguments, from a script under torchrun or srun: each process is then one rank. The command line does not join them yet.

    Raises:
        SnowError: an impossible layout, a missing tier or phase before, more repetitions than allowed, a damaged or
            foreign checkpoint, a loss that is not finite, a stop by signal (after saving), or srun without a meeting point.
    """
    vocabulary = vocabulary_of(tokenizer)
    numbers = numbers_from_environment()
    processes = numbers.world if numbers else _processes_here(layout)
    spec = RunSpec(
        train=settings, phase=phase, model=model, vocabulary=vocabulary, layout=layout, seed=seed, tokens=tokens.absolute(),
        previous=previous.absolute() if previous else None, work=work.absolute(), rendezvous="env://", threads=_threads(numbers, processes),
    )  # fmt: skip
    check(spec, processes)
    _require_meeting_point(numbers)
    data = phase_samples(phase, spec.settings, tokens, seed)
    validation_samples(settings, spec.settings, tokens, seed)
    if not _finished(spec):
        _run(spec, processes, numbers)
    summary = _summarise(spec, {tier: data.epochs(tier) for tier in spec.settings.mix})
    if numbers is None or numbers.rank == 0:
        write_atomically(work / "summary.json", json.dumps(summary, indent=1).encode())
    return summary


def check(spec: RunSpec, processes: int) -> None:
    """Refuse before any process starts what cannot run on ``processes``. Raises SnowError."""
    phase, padded = spec.settings, padded_vocabulary(spec.model, spec.vocabulary)
    for batch in phase.batches:
        try:
            spec.layout.check(spec.model, padded, phase.sequence, batch, phase.micro_batch, processes)
        except SnowError as error:
            raise error if batch == phase.batch else SnowError(f"batch_ramp begins with smaller batches: {error}") from error
    if spec.train.precision == "fp8":
        spec.train.fp8.check(spec.model, spec.layout, phase.sequence, phase.micro_batch)
    try:
        spec.layout.check(spec.model, padded, phase.sequence, spec.train.validation.samples, phase.micro_batch, processes)
    except SnowError as error:
        raise SnowError(f"train.validation.samples stands for the batch here: {error}") from error
    if spec.previous is not None and latest(spec.previous) is None:
        raise SnowError(f"the phase before left no whole checkpoint in {spec.previous}: train it first")


def vocabulary_of(tokenizer: Path) -> int:
    """How many token ids a tokenizer folder's tokenizer has, special ones included. Raises SnowError where it holds none."""
    from tokenizers import Tokenizer

    path = tokenizer / "tokenizer.json"
    if not path.is_file():
        raise SnowError(f"{tokenizer} holds no tokenizer.json: train a tokenizer first, or name the folder of one")
    return Tokenizer.from_file(str(path)).get_vocab_size(with_added_tokens=True)


def _run(spec: RunSpec, processes: int, numbers: RankNumbers | None) -> None:
    if numbers is None:
        launch(spec, processes)
        return
    stop = StopSignal()
    stop.listen()
    if not run_rank(spec, numbers, stop):
        raise Stopped(f"training of phase {spec.phase} was stopped by a signal and saved; run the same command again to go on")


def _finished(spec: RunSpec) -> bool:
    newest = latest(spec.work)
    return newest is not None and read_description(newest).step == spec.settings.steps


def _summarise(spec: RunSpec, passes: dict[str, float]) -> dict[str, Any]:
    rows, validation = read_rows(spec.work / METRICS), read_rows(spec.work / VALIDATION)
    padded = padded_vocabulary(spec.model, spec.vocabulary)
    seconds = sum(row["seconds"] for row in rows)
    return {
        "phase": spec.phase, "parameters": parameters(spec.model, padded), "vocabulary": padded, "steps": len(rows), "tokens": rows[-1]["tokens"],
        "passes": {tier: round(count, 3) for tier, count in passes.items()}, "loss": rows[-1]["loss"],
        "validation": {row["tier"]: row["loss"] for row in validation if row["step"] == rows[-1]["step"]},
        "seconds": round(seconds, 1), "tokens_per_second": round(rows[-1]["tokens"] / seconds, 1),
    }  # fmt: skip


def _processes_here(layout: Layout) -> int:
    """Processes to start on this machine: one a CUDA device, or on a CPU as many as the layout asks for."""
    devices = 0
    if has_cuda_driver():
        import torch

        devices = torch.cuda.device_count()
    processes = layout.processes(max(1, devices))
    if devices and processes > devices:
        raise SnowError(
            f"the layout {layout.describe()} takes {processes} GPUs, this machine has {devices}: lower it, "
            "or call megatron_snow.training.train_phase from a script under torchrun or srun on more machines"
        )
    return processes


def _require_meeting_point(numbers: RankNumbers | None) -> None:
    """Refuse ranks that could not find each other: torchrun sets the address, Slurm does not."""
    if numbers is not None and not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        raise SnowError(
            "under srun the processes need a meeting point, which is not set: put into the batch script "
            "export MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | head -n1) MASTER_PORT=29500"
        )


def _threads(numbers: RankNumbers | None, processes: int) -> int:
    """This rank's share of the machine's cores; srun binds a task to its own, torchrun says how many share."""
    sharing = processes if numbers is None else int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(1, len(os.sched_getaffinity(0)) // sharing)
