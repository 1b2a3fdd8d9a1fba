"""Which samples a step takes, in closed form: a batch size that is constant or grows in stages.

Step k takes the samples [first_sample(k), first_sample(k + 1)) of the phase's order. The order itself knows nothing of
steps, so a ramp changes how many samples a step takes and never which sample comes next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from megatron_snow.artifacts.settings import Settings
from megatron_snow.artifacts.units import Duration, Period


class BatchRamp(Settings):
    """A batch that grows from ``start`` to the phase's own by ``increment``, in stages of equal length (Megatron-LM's ``--rampup-batch-size``)."""

    start: Annotated[int, Field(ge=1)]
    """Sequences of the first step."""
    increment: Annotated[int, Field(ge=1)]
    """Sequences added from stage to stage; the phase's batch less ``start`` is a multiple of it."""
    over: Period
    """From the first step to the first one of the whole batch."""


class Stage(NamedTuple):
    """A run of steps with one batch size; the last stage goes on without end."""

    step: int
    """Its first step (0 is the phase's first)."""
    sample: int
    """Its first sample."""
    batch: int
    """Sequences a step."""


def stages(batch: int, sequence: int, ramp: BatchRamp | None) -> list[Stage]:
    """The stages of a phase of ``batch`` sequences of ``sequence`` tokens, one that reaches no step left out.

    Of n growing stages, the i-th ends with the step that reaches i/n of ``ramp.over``.
    """
    found = [Stage(0, 0, batch)]
    if ramp is None:
        return found
    growing = (batch - ramp.start) // ramp.increment
    step = sample = 0
    found = []
    for index in range(growing):
        size, reached = ramp.start + index * ramp.increment, ramp.over.amount * (index + 1)
        steps = reached // growing - step if ramp.over.unit == "steps" else -(-(_up(reached, growing * sequence) - sample) // size)
        if steps > 0:
            found.append(Stage(step, sample, size))
            step, sample = step + steps, sample + steps * size
    return [*found, Stage(step, sample, batch)]


def first_sample(plan: Sequence[Stage], step: int) -> int:
    """The first sample of a step: how many samples the steps before it took."""
    stage = next(stage for stage in reversed(plan) if stage.step <= step)
    return stage.sample + (step - stage.step) * stage.batch


def step_reaching(plan: Sequence[Stage], samples: int) -> int:
    """How many steps take ``samples`` samples at least."""
    stage = next(stage for stage in reversed(plan) if stage.sample <= max(samples, 0))
    return stage.step + _up(max(samples, 0) - stage.sample, stage.batch)


def steps_of(plan: Sequence[Stage], duration: Duration, sequence: int) -> int:
    """A duration from the phase's first step on, in steps, rounded up."""
    return duration.amount if duration.unit == "steps" else step_reaching(plan, _up(duration.amount, sequence))


def steps_before(plan: Sequence[Stage], duration: Duration, sequence: int, end: int) -> int:
    """The step from which ``duration`` at least is left until step ``end``; negative where the steps before ``end`` are fewer."""
    if duration.unit == "steps":
        return end - duration.amount
    left = first_sample(plan, end) - _up(duration.amount, sequence)
    return step_reaching(plan, left + 1) - 1 if left >= 0 else -1


def _up(amount: int, size: int) -> int:
    """``amount / size``, rounded up."""
    return -(-amount // size)
