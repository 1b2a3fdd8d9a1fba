from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from megatron.core.num_microbatches_calculator import RampupBatchsizeNumMicroBatchesCalculator

from megatron_snow.artifacts.units import Duration
from megatron_snow.training.ramp import BatchRamp, Stage, first_sample, stages, step_reaching, steps_before, steps_of
from tests.training import small


def ramp(start: int, increment: int, over: str) -> BatchRamp:
    return BatchRamp.model_validate({"start": start, "increment": increment, "over": over})


@pytest.mark.parametrize(("start", "increment", "batch", "samples"), [(16, 16, 64, 960), (8, 8, 128, 3000), (32, 96, 512, 10_000), (1, 1, 5, 40)])
def test_batches_grow_as_megatrons_calculator_has_them(start: int, increment: int, batch: int, samples: int) -> None:
    theirs = RampupBatchsizeNumMicroBatchesCalculator(batch, 1, 1, False, 1, start, increment, samples)
    plan = stages(batch, 32, ramp(start, increment, str(samples * 32)))
    consumed = step = 0
    while consumed <= samples + 3 * batch:
        theirs.update(consumed, consistency_check=True)
        assert first_sample(plan, step) == consumed
        assert first_sample(plan, step + 1) - consumed == theirs.get_current_global_batch_size()
        consumed, step = first_sample(plan, step + 1), step + 1


def test_a_ramp_over_steps_shares_them_evenly() -> None:
    assert stages(64, 32, ramp(16, 16, "9 steps")) == [Stage(0, 0, 16), Stage(3, 48, 32), Stage(6, 144, 48), Stage(9, 288, 64)]
    assert stages(64, 32, ramp(16, 16, "2 steps")) == [Stage(0, 0, 32), Stage(1, 32, 48), Stage(2, 80, 64)]  # shorter than its stages are many
    assert stages(64, 32, None) == [Stage(0, 0, 64)]


RAMPS = st.builds(
    lambda start, increment, growing, amount, unit: (start + increment * growing, ramp(start, increment, f"{amount}{unit}")),
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(1, 400), st.sampled_from(["", " steps"]),
)  # fmt: skip


@given(RAMPS, st.integers(1, 8), st.integers(0, 300))
def test_every_sample_belongs_to_one_step_and_the_inverse_finds_it(given: tuple[int, BatchRamp], sequence: int, samples: int) -> None:
    batch, growing = given
    plan = stages(batch, sequence, growing)
    found, step = [], 0
    while len(found) <= samples:
        found.extend([step] * (first_sample(plan, step + 1) - first_sample(plan, step)))
        step += 1
    assert step_reaching(plan, samples) == (found[samples - 1] + 1 if samples else 0)
    duration = Duration(amount=samples, unit="tokens")
    end = step + 3
    assert steps_of(plan, duration, sequence) == next(step for step in range(end + samples) if first_sample(plan, step) * sequence >= samples)
    left = [step for step in range(end + 1) if (first_sample(plan, end) - first_sample(plan, step)) * sequence >= samples]
    assert steps_before(plan, duration, sequence, end) == (left[-1] if left else -1)


def test_a_phase_reads_the_same_samples_in_the_same_order_with_a_ramp_and_from_any_step() -> None:
    plain = small.phase(25)
    ramped = plain.model_copy(update={"batch_ramp": ramp(2, 2, "2K")})
    assert plain.samples == 200 and ramped.samples == 202  # whole steps: two samples more
    for phase in (plain, ramped):
        assert [index for step in range(phase.steps) for index in phase.samples_of(step)] == list(range(phase.samples))
    # a third of 62.5 samples in 11 steps of 2, two thirds with 5 of 4, all with 4 of 6, 17 of 8 to the end
    assert ramped.steps == 11 + 5 + 4 + 17 and ramped.samples_of(12) == range(26, 30) and ramped.batches == [2, 4, 6, 8]
    assert ramped.tokens_before(ramped.steps) == ramped.samples * 32 >= ramped.tokens
