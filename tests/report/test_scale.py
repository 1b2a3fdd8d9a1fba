from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.report.scale import PhaseScale, fit, thin

_VALUES = st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=1, max_size=30)


@given(values=_VALUES, zero=st.booleans())
def test_a_fitted_scale_holds_every_value_and_has_few_round_ticks(values: list[float], zero: bool) -> None:
    scale = fit(values, 200, 20, zero)
    tolerance = 1e-6 * max(abs(scale.low), abs(scale.high))
    assert scale.low - tolerance <= min(values) and max(values) <= scale.high + tolerance and scale.low < scale.high
    assert all(19.9 <= scale(value) <= 200.1 for value in values)
    assert 2 <= len(scale.ticks()) <= 12
    if zero:
        assert scale.low <= 0


def test_values_that_are_not_finite_do_not_stretch_the_scale() -> None:
    assert fit([1.0, math.nan, 2.0, math.inf], 0, 1) == fit([1.0, 2.0], 0, 1)
    assert fit([], 0, 1).ticks()


def test_ticks_are_the_round_numbers_of_the_range() -> None:
    assert fit([0.3, 4.7], 0, 1).ticks() == [0, 1, 2, 3, 4, 5]
    assert fit([0, 5.3e-4], 0, 1).ticks() == pytest.approx([0, 2e-4, 4e-4, 6e-4])


@given(tokens=st.lists(st.floats(1, 1e12), min_size=1, max_size=6))
def test_phases_follow_each_other_and_none_is_too_narrow_to_label(tokens: list[float]) -> None:
    scale = PhaseScale.over([(str(index), amount) for index, amount in enumerate(tokens)], 0, 400)
    edges = [scale(str(index), 0) for index in range(len(tokens))] + [scale(str(len(tokens) - 1), tokens[-1])]
    assert edges[0] == pytest.approx(0, abs=1e-3) and edges[-1] == pytest.approx(400, abs=1e-3)
    widths = [right - left for left, right in pairwise(edges)]
    assert min(widths) >= 400 * min(0.2, 1 / len(tokens)) * 0.999


def test_the_papers_last_phase_is_visible() -> None:
    scale = PhaseScale.over([("general", 500e9), ("continued", 50e9), ("enhanced", 5e9)], 0, 400)
    assert scale("enhanced", 5e9) - scale("enhanced", 0) == pytest.approx(80)
    assert scale.uneven
    # Counting from the start of all phases leads to the same places.
    assert [scale.total(tokens) for tokens in (0, 500e9, 520e9, 555e9)] == pytest.approx(
        [scale("general", 0), scale("continued", 0), scale("continued", 20e9), scale("enhanced", 5e9)]
    )
    assert not PhaseScale.over([("a", 1e9), ("b", 1e9)], 0, 400).uneven


@given(values=st.lists(st.floats(-100, 100), min_size=1, max_size=3_000))
def test_thinning_keeps_order_and_extremes(values: list[float]) -> None:
    points = [(float(index), value) for index, value in enumerate(values)]
    kept = thin(points, 100)
    assert len(kept) <= max(len(points) if len(points) <= 100 else 0, 102)
    assert kept == sorted(kept) and set(kept) <= set(points)
    assert {min(values), max(values)} <= {value for _, value in kept}
