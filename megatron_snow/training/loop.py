"""A phase from its first or last saved step to its end, on one rank.

Whatever decides the result is a function of (settings, seed, step): the samples, the learning rate, the fresh weights.
Model and optimizer come back from the checkpoint bit for bit, so a killed run resumes exactly (under the same layout;
under another one to rounding).
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.progress import Progress, say
from megatron_snow.artifacts.units import format_count
from megatron_snow.checkpoint.engine import load
from megatron_snow.checkpoint.saver import Saver
from megatron_snow.checkpoint.store import FORMAT, Description, History, checkpoints, read_description, step_folder
from megatron_snow.model.initialise import initialise
from megatron_snow.model.settings import padded_vocabulary
from megatron_snow.parallel.backend import Backend
from megatron_snow.parallel.groups import Place, total
from megatron_snow.parallel.optimizer_fixes import forget_momentum, restart_step_count
from megatron_snow.training.anomalies import REMEDY, Watch
from megatron_snow.training.batches import Batches, Samples
from megatron_snow.training.engine import Engine
from megatron_snow.training.records import METRICS, VALIDATION, Records
from megatron_snow.training.samples import HELDOUT, heldout_languages, phase_samples, validation_samples
from megatron_snow.training.schedule import learning_rate
from megatron_snow.training.signals import StopSignal
from megatron_snow.training.spec import RunSpec
from megatron_snow.training.start import starting_checkpoint
from megatron_snow.training.watching import WatchedRecords


def run_phase(spec: RunSpec, backend: Backend, place: Place, stop: StopSignal, at: Callable[[str], None] = lambda where: None) -> int:
    """Train to the end of the phase or to a stop signal; returns the last finished step, which is then saved.

    ``at`` is told what the training is about to do (``heartbeat``).
    """
    return _Phase(spec, backend, place, at).run(stop)


_LOOKED_AT = 64  # newest checkpoints among which a roll-back looks (ours: more than are ever kept but for good)


class _Phase:
    def __init__(self, spec: RunSpec, backend: Backend, place: Place, at: Callable[[str], None]) -> None:
        at("building the model")
        self.at, self.watch = at, Watch(spec.train.anomalies)
        self.rolled_to = 0  # the step of the last roll-back's checkpoint
        self.spec, self.backend, self.place, self.phase = spec, backend, place, spec.settings
        self.vocabulary = padded_vocabulary(spec.model, spec.vocabulary)
        self.engine = Engine(spec.train, self.phase, spec.model, self.vocabulary, spec.layout, backend, place)
        self.samples = phase_samples(spec.phase, self.phase, spec.tokens, spec.seed, spec.train.index_cache, spec.tokenizer)
        self.batches = self._batches(self.samples, self.phase.samples_of)
        self.languages, left_out = heldout_languages(spec.train, self.phase, spec.tokens, spec.seed)
        if left_out and place.leader:
            say(f"  train {spec.phase}: {left_out}")
        self.saver = Saver(spec.work, self.engine.chunks, self.engine.optimizer, spec.train.checkpoint, place, spec.train.timeout)

    def run(self, stop: StopSignal) -> int:
        step = self._start()
        remaining = self.phase.tokens_before(self.phase.steps) - self.phase.tokens_before(step)
        stopping = False
        with (
            WatchedRecords(self.spec, step, self.place, self.samples) as records,
            open(os.devnull, "w") as nowhere,
            Progress(f"train {self.spec.phase}", remaining, "tokens", sys.stderr if self.place.leader else nowhere) as bar,
        ):
            if step == 0 and starting_checkpoint(self.spec) is not None:
                self._validate(0, records)
            while step < self.phase.steps and not stopping:
                stopping = self._step(step, stop, records, bar)
                step += 1
                last = step == self.phase.steps
                if last or (not stopping and self.phase.due(self.spec.train.validation.every, step)):
                    self._validate(step, records)
                if last or stopping or self.phase.due(self.spec.train.checkpoint.every, step):
                    records.sync()
                    self._save(step, stop, stopping)
            self.saver.finish()
        return step

    def _step(self, step: int, stop: StopSignal, records: Records, bar: Progress) -> bool:
        """One step and its row; returns whether any rank was asked to stop."""
        began = time.monotonic()
        rate = learning_rate(self.phase, step)
        self.at(f"step {step + 1}: reading samples")
        batches = self.batches.step(step)
        self.at(f"step {step + 1}: training")
        done = self.engine.try_step(batches, rate, stop.requested or self.saver.failed, self.watch.complaint)
        seconds, per_step = time.monotonic() - began, len(self.phase.samples_of(step)) * self.phase.sequence
        row = {
            "step": step + 1, "tokens": self.phase.tokens_before(step + 1), "loss": done.loss, "learning_rate": rate, "gradient_norm": done.norm,
            "tokens_per_second": round(per_step / seconds, 1), "seconds": round(seconds, 4),
        }  # fmt: skip
        if done.complaint is None:
            self.watch.good(done.loss)
            records.add(METRICS, row)
        else:
            self._recover(step, done.complaint, math.isfinite(done.loss) and done.norm is None, row, records)
        bar.advance(per_step, note=f"loss {done.loss:.3f}, lr {rate:.2e}")
        return done.stopping

    def _recover(self, step: int, complaint: str, finite: bool, row: dict[str, Any], records: Records) -> None:
        """Do about a bad step what the settings say, and write its row. Raises SnowError where that is to stop."""
        again = self.watch.fresh
        action, message = self.watch.act(complaint, finite, step + 1)
        target = None
        if action == "roll_back":
            self.saver.finish()
            target = self._newest(self.rolled_to - 1 if again else step)
            if target < 0:
                action, message = "stop", f"{complaint} at step {step + 1}, right after a roll-back to the first of this phase's checkpoints: {REMEDY}"
        records.add(METRICS, row | {"anomaly": complaint, "action": action} | ({} if target is None else {"rolled_back_to": target}))
        if message is not None:
            records.sync()
            self.saver.finish()  # a good checkpoint under way is not lost
            raise SnowError(message)
        if target is not None:
            self.rolled_to = target
            self._restore(target, rolled_back=True)
        if self.place.leader:
            where = f"rolled back to step {target}, going on after" if target is not None else "left out"
            say(f"  train {self.spec.phase}: {complaint}: {where} step {step + 1}")

    def _start(self) -> int:
        """Load the newest whole checkpoint of this phase, else the phase before's, else fresh weights; returns the step."""
        found = self._newest(self.phase.steps)
        self._restore(found)
        if found and self.place.leader:
            say(f"  train {self.spec.phase}: goes on after step {found} of {self.phase.steps}")
        return found

    def _newest(self, most: int) -> int:
        """The step of the newest whole checkpoint not after ``most``, 0 for none (this phase's start), -1 where ``most`` is before that; on every rank."""
        steps = [read_description(folder).step for folder in reversed(checkpoints(self.spec.work))][:_LOOKED_AT] if self.place.leader else []
        return round(total([float(next((step for step in steps if step <= most), min(most, 0))) if self.place.leader else 0.0], self.backend)[0])

    def _restore(self, found: int, rolled_back: bool = False) -> None:
        """Model, optimizer and history as they were after step ``found``; 0: as the phase begins."""
        self.at(f"loading step {found}")
        if found:
            self._load(step_folder(self.spec.work, found), momentum=True, rolled_back=rolled_back)
            return
        self.watch.restore(History(), rolled_back)
        if (before := starting_checkpoint(self.spec)) is not None:
            self._load(before, momentum=self.phase.hand_off != "weights")
            if self.phase.hand_off == "moments":
                restart_step_count(self.engine.optimizer)
        else:
            initialise(self.engine.chunks, self.spec.model, self.spec.seed)
            self.engine.optimizer.reload_model_params()
            forget_momentum(self.engine.optimizer)  # of what a roll-back leaves behind

    def _load(self, folder: Path, momentum: bool, rolled_back: bool = False) -> None:
        found = load(folder, self.engine.chunks, self.engine.optimizer, self._description(0), self.place, momentum)
        if folder.parents[1] == self.spec.work:
            self.watch.restore(found.history, rolled_back)

    def _save(self, step: int, stop: StopSignal, stopping: bool) -> None:
        """Begin to save a step; where the run stops, only if that can be done in the time that is left."""
        self.at(f"step {step}: saving")
        if stopping:
            stop.give(self.spec.train.checkpoint.grace)
            late = total([float(self.saver.seconds > stop.left)], self.backend)[0] > 0
            self.saver.finish()
            if late:
                return
        self.engine.settle()
        self.saver.begin(self._description(step))

    def _description(self, step: int) -> Description:
        spec = self.spec
        layout = spec.layout.model_copy(update={"data": self.place.data})  # as it was, where the machine decided
        return Description(
            format=FORMAT, phase=spec.phase, step=step, tokens=self.phase.tokens_before(step), model=spec.model, vocabulary=self.vocabulary,
            sequence=self.phase.sequence, precision="fp32" if spec.train.precision == "fp32" else "bf16", layout=layout, seed=spec.seed,
            history=self.watch.history,
        )  # fmt: skip

    def _batches(self, samples: Samples, samples_of: Callable[[int], range]) -> Batches:
        train, apart = self.spec.train, not self.phase.cross_document_attention
        block = train.fp8.block if train.precision == "fp8" else 1
        return Batches(samples, samples_of, self.phase.micro_batch, self.spec.vocabulary, self.place, self.backend, apart, block)

    def _validate(self, step: int, records: Records) -> None:
        losses, tokens = {}, self.phase.tokens_before(step)
        for tier, samples in validation_samples(self.spec.train, self.phase, self.spec.tokens, self.spec.seed).items():
            self.at(f"step {step}: validating on {tier}")
            losses[tier] = self._loss_on(samples)
            records.add(VALIDATION, {"step": step, "tokens": tokens, "tier": tier, "loss": losses[tier]})
        for language, own in self.languages.items():
            self.at(f"step {step}: validating on {language}")
            records.add(VALIDATION, {"step": step, "tokens": tokens, "tier": HELDOUT, "language": language, "loss": self._loss_on(own)})
        if self.place.leader:
            say(f"  validation after {format_count(tokens)} tokens: " + ", ".join(f"{tier} {loss:.3f}" for tier, loss in losses.items()))

    def _loss_on(self, samples: Samples) -> float:
        """Mean loss a token over all of ``samples``, as one batch."""
        return self.engine.loss(self._batches(samples, lambda _: range(len(samples))).step(0))
