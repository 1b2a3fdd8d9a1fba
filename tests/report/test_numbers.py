from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from megatron_snow.report.numbers import DASH, axis_number, count, decimal, mixture, of, share, wilson


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_is_scipys(passed_of: tuple[int, int]) -> None:
    passed, total = passed_of
    expected = binomtest(passed, total).proportion_ci(0.95, method="wilson")
    assert wilson(passed, total) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (12_345, "12,345"), (12_500_000, "12.5M"), (999_999, "999,999"), (None, DASH)])
def test_count(value: int | None, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 10, "0 %"), (10, 10, "100 %"), (9_999, 10_000, "99.9 %"), (1, 10_000, "< 0.1 %"), (1, 40, "2.5 %"), (1, 2, "50 %"), (1, 0, DASH)],
)
def test_share_never_rounds_to_all_or_nothing(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (5.3e-4, "5.3e-4"), (0.05, "0.05"), (1_638_400, "1.64M"), (-2.5, "-2.5"), (1e-7, "1e-7")])
def test_axis_number(value: float, text: str) -> None:
    assert axis_number(value) == text


def test_decimal_and_plural() -> None:
    assert (decimal(0.12345), decimal(None), decimal(float("nan"))) == ("0.123", DASH, DASH)
    assert (of(1, "file"), of(1_200, "file")) == ("1 file", "1,200 files")
    assert (of(1, "repository"), of(2, "repository")) == ("1 repository", "2 repositories")


def test_a_phases_mixture_counts_replay_as_a_share_of_all() -> None:
    assert mixture({"blend": {"high_quality": 1}}) == "high quality"
    assert mixture({"blend": {"synthetic": 1, "standard": 3}}) == "synthetic 1 + standard 3"
    assert mixture({"blend": {"synthetic": 2}, "replay": {"high_quality": 0.84}}) == "synthetic 0.16 + high quality 0.84"
    assert mixture({}) == DASH
