from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.report.sections.training import running_mean


@given(values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=600))
def test_the_running_mean_is_numpys(values: list[float]) -> None:
    size = max(5, len(values) // 50)
    found = running_mean([(float(index), value) for index, value in enumerate(values)])
    assert [x for x, _ in found] == list(range(len(values)))
    expected = [np.mean(values[max(0, index + 1 - size) : index + 1]) for index in range(len(values))]
    assert [mean for _, mean in found] == pytest.approx(expected, abs=1e-8)


def test_a_step_that_was_not_finite_leaves_the_mean_where_it_was() -> None:
    means = [mean for _, mean in running_mean([(0, math.nan), (1, 2.0), (2, math.nan), (3, 4.0)])]
    assert math.isnan(means[0]) and means[1:] == [2.0, 2.0, 3.0]
