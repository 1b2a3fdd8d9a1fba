from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.report.canvas import LEFT, RIGHT, WIDTH, mark
from megatron_snow.report.charts import Line, horizontal, line_chart, logarithmic, phase_chart
from megatron_snow.report.rows import Value, value_chart


def test_every_colours_mark_has_a_shape_of_its_own() -> None:
    shapes = {re.sub(r"-?[\d.]+ -?[\d.]+", "p", re.findall(r' d="([^"]*)"', mark(50, 50, tint, ""))[0]) for tint in range(1, 9)}
    outlines = {re.findall(r' d="([^"]*)"', mark(50, 50, tint, ""))[0] for tint in range(1, 9)}
    assert len(outlines) == 8 and len(shapes) >= 4


@pytest.mark.parametrize("tint", range(9))
def test_marks_lie_around_their_point(tint: int) -> None:
    drawn = re.findall(r' d="M([^"]*)z"', mark(50, 80, tint, "x"))[0]
    if tint > 1:
        places = [tuple(map(float, place.split())) for place in drawn.split("L")]
        assert all(abs(x - 50) <= 4.1 and abs(y - 80) <= 4.1 for x, y in places)
        assert abs(sum(x for x, _ in places) / len(places) - 50) < 0.5


@given(tokens=st.lists(st.integers(1, 10**12), min_size=1, max_size=7), name=st.text("abcdefghij", min_size=1, max_size=40))
def test_labels_of_phases_never_touch(tokens: list[int], name: str) -> None:
    drawing = phase_chart("x", [Line("l", [(0, 1.0), (1, 2.0)], 1, "0")], [(str(index), float(count)) for index, count in enumerate(tokens)], "unit")
    labels = re.findall(r'<text x="([\d.]+)" y="231" text-anchor="(\w+)">([^<]*)<', drawing)
    spans = []
    for x, anchor, label in labels:
        width = 7 * len(label)  # a little more than the page's font needs
        start = float(x) - {"start": 0.0, "middle": width / 2, "end": float(width)}[anchor]
        spans.append((start, start + width))
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans)), labels
    assert spans[0][0] >= LEFT and spans[-1][1] <= RIGHT + 0.01


@given(low=st.floats(1e-6, 1e6), ratio=st.floats(1.0, 1e9))
def test_a_logarithmic_axis_holds_its_values_between_powers_of_ten(low: float, ratio: float) -> None:
    scale = logarithmic(low, low * ratio)
    assert scale.low <= low * (1 + 1e-9) and low * ratio <= scale.high * (1 + 1e-9) and 2 <= len(scale.ticks()) <= 8
    assert scale(scale.low) == LEFT and scale(scale.high) == pytest.approx(RIGHT)
    middle = (scale.low * scale.high) ** 0.5
    assert scale(middle) == pytest.approx((LEFT + RIGHT) / 2)
    assert scale(scale.low / 10) == LEFT


def test_values_with_intervals_stay_on_the_canvas_and_say_what_they_are() -> None:
    rows = [("HumanEval+", [Value("this run", 0.6, 1, 0.1, 3.4), Value("paper", 28.0, 2, 21.7, 35.3)]), ("a name of more than twenty letters", [])]
    drawing = value_chart("pass@1", rows, "%", zero=True)
    assert "HumanEval+, paper: 28 (95 % interval 21.7 to 35.3)" in drawing and "a name of more than…" in drawing
    whiskers = re.findall(r'd="M([\d.]+) [\d.]+V[\d.]+M[\d.]+ [\d.]+H([\d.]+)M', drawing)
    assert len(whiskers) == 2 and all(0 <= float(a) < float(b) <= WIDTH for a, b in whiskers)
    assert float(whiskers[0][1]) < float(whiskers[1][0])  # 3.4 % lies left of 21.7 %


def test_what_is_not_finite_breaks_the_curve() -> None:
    drawing = line_chart("x", [Line("l", [(0, 1.0), (1, 2.0), (2, float("nan")), (3, 1.0), (4, 1.5)])], horizontal(0, 4), (0, 2), ("a", "b"))
    (path,) = re.findall(r'<path d="([^"]*)"', drawing)
    assert path.count("M") == 2 and "nan" not in drawing
