"""A phase from its first or last saved step to its end, on one rank.

Whatever decides the result is a function of (settings, seed, step): the samples, the learning rate, the fresh weights.
Model and optimizer come back from the checkpoint bit for bit, so a killed run resumes exactly (under the same layout;
under another one to rounding).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from megatron_snow.artifacts.progress import Progress, say
from megatron_snow.artifacts.units import format_count
from megatron_snow.checkpoint.engine import load, save
from megatron_snow.checkpoint.store import FORMAT, Description, latest, read_description, step_folder
from megatron_snow.model.initialise import initialise
from megatron_snow.model.settings import padded_vocabulary
from megatron_snow.parallel.backend import Backend
from megatron_snow.parallel.groups import Place, total
from megatron_snow.parallel.optimizer_fixes import restart_step_count
from megatron_snow.training.batches import Batches, Samples
from megatron_snow.training.engine import Engine
from megatron_snow.training.records import METRICS, VALIDATION, Records
from megatron_snow.training.samples import phase_samples, validation_samples
from megatron_snow.training.schedule import learning_rate
from megatron_snow.training.signals import StopSignal
from megatron_snow.training.spec import RunSpec
from megatron_snow.training.start import starting_checkpoint
from megatron_snow.training.watching import WatchedRecords


def run_phase(spec: RunSpec, backend: Backend, place: Place, stop: StopSignal) -> int:
    """Train to the end of the phase or to a stop signal; returns the last finished step, which is then saved."""
    return _Phase(spec, backend, place).run(stop)


class _Phase:
    def __init__(self, spec: RunSpec, backend: Backend, place: Place) -> None:
        self.spec, self.backend, self.place, self.phase = spec, backend, place, spec.settings
        self.vocabulary = padded_vocabulary(spec.model, spec.vocabulary)
        self.engine = Engine(spec.train, self.phase, spec.model, self.vocabulary, spec.layout, backend, place)
        self.samples = phase_samples(spec.phase, self.phase, spec.tokens, spec.seed, spec.train.index_cache, spec.tokenizer)
        self.batches = self._batches(self.samples, self.phase.samples_of)

    def run(self, stop: StopSignal) -> int:
        step = self._start()
        remaining = self.phase.tokens_before(self.phase.steps) - self.phase.tokens_before(step)
        stopping = False
        with (
            WatchedRecords(self.spec, step, self.place, self.samples) as records,
            open(os.devnull, "w") as nowhere,
            Progress(f"train {self.spec.phase}", remaining, "tokens", sys.stderr if self.place.leader else nowhere) as bar,
        ):
            while step < self.phase.steps and not stopping:
                stopping = self._step(step, stop, records, bar)
                step += 1
                last = step == self.phase.steps
                if last or (not stopping and self.phase.due(self.spec.train.validation.every, step)):
                    self._validate(step, records)
                if last or stopping or self.phase.due(self.spec.train.checkpoint.every, step):
                    records.sync()
                    self._save(step)
        return step

    def _step(self, step: int, stop: StopSignal, records: Records, bar: Progress) -> bool:
        """One step and its row; returns whether any rank was asked to stop."""
        began = time.monotonic()
        rate = learning_rate(self.phase, step)
        loss, norm, stopping = self.engine.step(self.batches.step(step), rate, step + 1, stop.requested)
        seconds, per_step = time.monotonic() - began, len(self.phase.samples_of(step)) * self.phase.sequence
        row = {
            "step": step + 1, "tokens": self.phase.tokens_before(step + 1), "loss": loss, "learning_rate": rate, "gradient_norm": norm,
            "tokens_per_second": round(per_step / seconds, 1), "seconds": round(seconds, 4),
        }  # fmt: skip
        records.add(METRICS, row)
        bar.advance(per_step, note=f"loss {loss:.3f}, lr {rate:.2e}")
        return stopping

    def _start(self) -> int:
        """Load the newest whole checkpoint of this phase, else the phase before's, else fresh weights; returns the step."""
        own = latest(self.spec.work) if self.place.leader else None
        found = round(total([float(read_description(own).step if own else 0)], self.backend)[0])
        if found:
            self._load(step_folder(self.spec.work, found), momentum=True)
            if self.place.leader:
                say(f"  train {self.spec.phase}: goes on after step {found} of {self.phase.steps}")
        elif (before := starting_checkpoint(self.spec)) is not None:
            self._load(before, momentum=self.phase.hand_off != "weights")
            if self.phase.hand_off == "moments":
                restart_step_count(self.engine.optimizer)
        else:
            initialise(self.engine.chunks, self.spec.model, self.spec.seed)
            self.engine.optimizer.reload_model_params()
        return found

    def _load(self, folder: Path, momentum: bool) -> None:
        load(folder, self.engine.chunks, self.engine.optimizer, self._description(0), self.place, momentum)

    def _save(self, step: int) -> None:
        self.engine.settle()
        save(self.spec.work, self.engine.chunks, self.engine.optimizer, self._description(step), self.spec.train.checkpoint.keep, self.place)

    def _description(self, step: int) -> Description:
        spec = self.spec
        return Description(
            format=FORMAT, phase=spec.phase, step=step, tokens=self.phase.tokens_before(step), model=spec.model, vocabulary=self.vocabulary,
            sequence=self.phase.sequence, precision="fp32" if spec.train.precision == "fp32" else "bf16", layout=spec.layout, seed=spec.seed,
        )  # fmt: skip

    def _batches(self, samples: Samples, samples_of: Callable[[int], range]) -> Batches:
        train, apart = self.spec.train, not self.phase.cross_document_attention
        block = train.fp8.block if train.precision == "fp8" else 1
        return Batches(samples, samples_of, self.phase.micro_batch, self.spec.vocabulary, self.place, self.backend, apart, block)

    def _validate(self, step: int, records: Records) -> None:
        losses, tokens = {}, self.phase.tokens_before(step)
        for tier, samples in validation_samples(self.spec.train, self.phase, self.spec.tokens, self.spec.seed).items():
            losses[tier] = self._loss_on(samples)
            records.add(VALIDATION, {"step": step, "tokens": tokens, "tier": tier, "loss": losses[tier]})
        if self.place.leader:
            say(f"  validation after {format_count(tokens)} tokens: " + ", ".join(f"{tier} {loss:.3f}" for tier, loss in losses.items()))

    def _loss_on(self, samples: Samples) -> float:
        """Mean loss a token over all of ``samples``, as one batch."""
        return self.engine.loss(self._batches(samples, lambda _: range(len(samples))).step(0))
