"""The order of samples is a function of recipe and seed: real runs log what they read, under several layouts and across resumes that change the layout."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from megatron_snow.artifacts.units import Duration
from megatron_snow.model.settings import ModelSettings
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.ramp import BatchRamp
from megatron_snow.training.samples import phase_samples
from megatron_snow.training.settings import PhaseSettings, TrainSettings
from tests.training import ranks, small

MODEL = ModelSettings(hidden=32, ffn=64, layers=4, heads=4, kv_heads=2)
PHASE = small.phase(4)
RAMP = small.phase(5, batch_ramp=BatchRamp(start=4, increment=4, over=Duration(amount=2, unit="steps")))
Log = list[tuple[int, str]]
"""(sample, digest of its tokens) as read."""


class Logged:
    """A dataset that notes what is read from it, and asks the run to stop once ``last`` is."""

    def __init__(self, samples: Any, log: Log, stop: Any, last: int | None) -> None:
        self.samples, self.log, self.stop, self.last = samples, log, stop, last

    def __len__(self) -> int:
        return len(self.samples)

    def __getattr__(self, name: str) -> Any:
        """What a run asks of the dataset besides samples: counts and passes."""
        return getattr(self.samples, name)

    def sample(self, i: int) -> Any:
        sample = self.samples.sample(i)
        self.log.append((i, hashlib.sha256(sample.tokens.tobytes()).hexdigest()))
        if self.last is not None and i >= self.last:
            self.stop.requested = True
        return sample


def logged_run(rank: int, world: int, rendezvous: str, run: Any, last: int | None) -> tuple[int, Log]:
    """This rank's part of a run: which replica it is of, and what it read."""
    from megatron_snow.training import loop
    from megatron_snow.training.signals import StopSignal
    from megatron_snow.training.worker import RankNumbers, run_rank

    log: Log = []
    stop, replica = StopSignal(), []

    def watched(*arguments: Any) -> Logged:
        return Logged(phase_samples(*arguments), log, stop, last)

    def placed(spec: Any, backend: Any, place: Any, *others: Any) -> int:
        replica.append(place.data_rank)
        return run_phase(spec, backend, place, *others)

    run_phase = loop.run_phase
    with mock.patch.object(loop, "phase_samples", watched), mock.patch.object(loop, "run_phase", placed):
        run_rank(run.model_copy(update={"rendezvous": rendezvous}), RankNumbers(rank, world, rank), stop)
    return replica[0], log


def read(tokens: Path, work: Path, layout: Layout, phase: PhaseSettings, first: int = 0, last_sample: int | None = None) -> list[Log]:
    """What a run reads, step by step from step ``first`` on, over all replicas in their order."""
    run = small.spec(tokens, work, layout, MODEL, train=settings(phase))
    logs: dict[int, Log] = {}
    for replica, log in ranks.run(logged_run, layout.model_parallel * (layout.data or 1), run, last_sample):
        assert logs.setdefault(replica, log) == log  # the ranks of a replica read the same
    assert sorted(logs) == list(range(layout.data or 1))
    steps: list[Log] = []
    while any(logs.values()):
        own = len(phase.samples_of(first + len(steps))) // len(logs)
        steps.append([entry for replica in sorted(logs) for entry in logs[replica][:own]])
        logs = {replica: log[own:] for replica, log in logs.items()}
    return steps


def settings(phase: PhaseSettings) -> TrainSettings:
    return small.train(phase, validation=small.train().validation.model_copy(update={"every": Duration(amount=99, unit="steps")}))


def expected(tokens: Path, phase: PhaseSettings) -> list[Log]:
    """Straight from the dataset: sample after sample, cut into the phase's batches."""
    data = phase_samples("general", phase, tokens, 7)
    order = [(i, hashlib.sha256(data[i].tobytes()).hexdigest()) for i in range(len(data))]
    assert len({digest for _, digest in order}) > len(order) * 0.9  # samples can be told apart
    return [[order[i] for i in phase.samples_of(step)] for step in range(phase.steps)]


LAYOUTS = [
    (Layout(), PHASE),
    (Layout(tensor=2, sequence_parallel=True), PHASE),
    (Layout(pipeline=2, virtual_pipeline=2), PHASE),
    (Layout(data=4), RAMP),
    (Layout(context=2, data=2), PHASE.model_copy(update={"cross_document_attention": False})),
    (Layout(pipeline=2, data=2), PHASE.model_copy(update={"micro_batch": 2})),
]


@pytest.mark.parametrize(("layout", "phase"), LAYOUTS)
def test_every_layout_reads_the_same_samples_in_the_same_order(layout: Layout, phase: PhaseSettings, tokens: Path, tmp_path: Path) -> None:
    assert read(tokens, tmp_path, layout, phase) == expected(tokens, phase)


@pytest.mark.parametrize("phase", [PHASE, RAMP], ids=["constant batch", "batch ramp"])
def test_a_resume_under_another_layout_goes_on_where_the_order_was(phase: PhaseSettings, tokens: Path, tmp_path: Path) -> None:
    steps = read(tokens, tmp_path, Layout(data=2), phase, 0, last_sample=phase.first_sample(1))  # stops after its second step
    assert len(steps) == 2
    steps += read(tokens, tmp_path, Layout(tensor=2, data=2), phase, 2, last_sample=phase.first_sample(2))
    assert len(steps) == 3
    steps += read(tokens, tmp_path, Layout(data=4), phase, 3)
    assert steps == expected(tokens, phase)


def test_a_ramp_and_another_batch_change_the_steps_and_not_the_order(tokens: Path) -> None:
    flat = [[entry for step in expected(tokens, phase) for entry in step] for phase in (PHASE, RAMP, small.phase(8, batch=4))]
    shortest = min(map(len, flat))
    assert shortest >= 32 and flat[0][:shortest] == flat[1][:shortest] == flat[2][:shortest]
