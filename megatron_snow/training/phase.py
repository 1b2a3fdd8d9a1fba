"""The train arrow: one phase, from what the phase before left to a published checkpoint."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megatron_snow.artifacts.errors import SnowError, Stopped
from megatron_snow.artifacts.publish import write_atomically
from megatron_snow.checkpoint.store import clear_leftovers, latest, prune, read_description
from megatron_snow.model.settings import ModelSettings, padded_vocabulary, parameters
from megatron_snow.parallel.backend import has_cuda_driver
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.cluster import threads_of_rank
from megatron_snow.training.launch import LAUNCH, launch
from megatron_snow.training.records import METRICS, VALIDATION, read_rows
from megatron_snow.training.samples import HELDOUT, heldout_languages, phase_samples, validation_samples
from megatron_snow.training.settings import TrainSettings
from megatron_snow.training.signals import StopSignal
from megatron_snow.training.sinks import check_installed
from megatron_snow.training.spec import RunSpec
from megatron_snow.training.start import starting_checkpoint
from megatron_snow.training.symptoms import symptoms
from megatron_snow.training.worker import HEARTBEAT, numbers_from_environment, run_rank

if TYPE_CHECKING:  # it imports torch, which a process that only starts ranks does without
    from megatron_snow.training.crew import Crew


def train_phase(
    settings: TrainSettings,
    phase: str,
    model: ModelSettings,
    layout: Layout,
    seed: int,
    tokens: Path,
    tokenizer: Path,
    previous: Path | None,
    work: Path,
    crew: Crew | None = None,
) -> dict[str, Any]:
    """Train one phase; resumes from the newest whole checkpoint in ``work``, starts from ``previous`` otherwise.

    ``previous`` is the training folder of the phase before or of the recipe's base (its newest checkpoint counts), or one
    ``step-*`` folder; None is fresh weights.

    Writes ``work/checkpoints/step-*``, ``metrics.jsonl`` (a row a step: step, tokens, loss, learning_rate, gradient_norm,
    tokens_per_second, seconds, and what ``watching`` adds), ``validation.jsonl`` (step, tokens, tier, loss;
    a row of one language of the held-out tier has ``language`` too) and ``summary.json``: phase, parameters,
    vocabulary (padded), steps, tokens, passes (tier -> how often its documents were seen), loss (last step),
    validation (tier -> last loss), seconds (in steps), tokens_per_second, warnings. Returns the summary (on ranks other than 0, nothing).

    The ranks are started here, as many as the layout takes. Under torchrun or srun each process is one rank instead: the
    command line passes its ``crew``; a script of your own may call this with the same arguments on every rank without one.

    Raises:
        SnowError: an impossible layout, a missing tier or phase before, more repetitions than allowed, a damaged or
            foreign checkpoint, a loss that is not finite, or ranks that cannot meet.
        Stopped: by a signal, after saving.
    """
    vocabulary = vocabulary_of(tokenizer)
    crew = crew or _crew(phase)
    processes = crew.numbers.world if crew else _processes_here(layout)
    spec = RunSpec(
        train=settings, phase=phase, model=model, vocabulary=vocabulary, layout=layout, seed=seed, tokens=tokens.absolute(), tokenizer=tokenizer.absolute(),
        previous=previous.absolute() if previous else None, work=work.absolute(), rendezvous=crew.rendezvous if crew else "",
        threads=threads_of_rank(os.environ, len(os.sched_getaffinity(0))) if crew else max(1, len(os.sched_getaffinity(0)) // processes),
    )  # fmt: skip
    check(spec, processes)
    data = phase_samples(phase, spec.settings, tokens, seed, settings.index_cache, tokenizer)
    validation_samples(settings, spec.settings, tokens, seed)
    heldout_languages(settings, spec.settings, tokens, seed)
    if crew is None:
        if _finished(spec):
            _tidy(spec)
        else:
            launch(spec, processes)
    elif crew.agree(lambda: _finished(spec)):
        if crew.leader:
            _tidy(spec)
    else:
        crew.stop.listen()
        if not run_rank(spec, crew.numbers, crew.stop):
            raise Stopped(f"training of phase {phase} was stopped by a signal and saved; run the same command again to go on")
    if crew is not None and not crew.leader:
        return {}  # the leader may be moving the folder already
    summary = _summarise(spec, {tier: data.epochs(tier) for tier in spec.settings.mix})
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
    validation = spec.train.validation
    validated = {"samples": validation.samples}
    if validation.languages and HELDOUT in spec.train.validated(phase):
        validated["language_samples"] = validation.per_language
    for name, samples in validated.items():
        try:
            spec.layout.check(spec.model, padded, phase.sequence, samples, phase.micro_batch, processes)
        except SnowError as error:
            raise SnowError(f"train.validation.{name} stands for the batch here: {error}") from error
    starting_checkpoint(spec)
    check_installed(spec.train.watch)


def vocabulary_of(tokenizer: Path) -> int:
    """How many token ids a tokenizer folder's tokenizer has, special ones included. Raises SnowError where it holds none."""
    from tokenizers import Tokenizer

    path = tokenizer / "tokenizer.json"
    if not path.is_file():
        raise SnowError(f"{tokenizer} holds no tokenizer.json: train a tokenizer first, or name the folder of one")
    return Tokenizer.from_file(str(path)).get_vocab_size(with_added_tokens=True)


def _crew(phase: str) -> Crew | None:
    """The ranks of a script that torchrun or srun started; None where this process is alone."""
    numbers = numbers_from_environment()
    if numbers is None:
        return None
    from megatron_snow.training.crew import Crew

    return Crew(numbers, StopSignal(), purpose=phase)


def _finished(spec: RunSpec) -> bool:
    newest = latest(spec.work)
    return newest is not None and read_description(newest).step == spec.settings.steps


def _tidy(spec: RunSpec) -> None:
    """Clear away what a run that was killed after its last save had no time to."""
    for name in (LAUNCH, HEARTBEAT):
        shutil.rmtree(spec.work / name, ignore_errors=True)
    clear_leftovers(spec.work)
    prune(spec.work, spec.train.checkpoint.keep, spec.train.checkpoint.keep_every)


def _summarise(spec: RunSpec, passes: dict[str, float]) -> dict[str, Any]:
    rows, validation = read_rows(spec.work / METRICS), read_rows(spec.work / VALIDATION)
    padded = padded_vocabulary(spec.model, spec.vocabulary)
    seconds = sum(row["seconds"] for row in rows)
    return {
        "phase": spec.phase, "parameters": parameters(spec.model, padded), "vocabulary": padded, "steps": len(rows), "tokens": rows[-1]["tokens"],
        "passes": {tier: round(count, 3) for tier, count in passes.items()}, "loss": rows[-1]["loss"],
        "validation": {row["tier"]: row["loss"] for row in validation if row["step"] == rows[-1]["step"] and "language" not in row},
        "seconds": round(seconds, 1), "tokens_per_second": round(rows[-1]["tokens"] / seconds, 1), "warnings": symptoms(spec, passes),
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
            "or start the same command on more machines with srun or torchrun (examples/slurm)"
        )
    return processes
