from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.report.sketch import SHORTEST, Sketch, line_hashes, text_hash

_FILES = st.lists(st.lists(st.sampled_from([f"value_{n} = compute({n}, {n})" for n in range(12)]), max_size=8), max_size=12)


def _sketch(files: list[list[str]], most: int = 1_000) -> Sketch:
    found = Sketch(most)
    for lines in files:
        found.add(line_hashes("\n".join(lines).encode()))
    return found


@given(files=_FILES, others=_FILES)
def test_shares_are_those_of_counting_by_hand(files: list[list[str]], others: list[list[str]]) -> None:
    found, other = _sketch(files), _sketch(others)
    counted = Counter(line for lines in files for line in set(lines))
    there = {line for lines in others for line in lines}
    total = counted.total()
    if total == 0:
        assert found.repeated() is None and found.copies() is None and found.found_in(other) is None
        return
    assert found.exact
    assert found.repeated() == sum(n for n in counted.values() if n > 1) / total
    assert found.copies() == 1 - len(counted) / total
    assert found.found_in(other) == sum(n for line, n in counted.items() if line in there) / total


def test_indentation_and_short_lines_do_not_count_and_a_line_counts_once_a_file() -> None:
    long = "x" * SHORTEST
    assert len(line_hashes(f"  {long}\n\t{long}\n{'y' * (SHORTEST - 1)}\n\n".encode())) == 1
    assert text_hash(b"a = 1\n\tb") == text_hash(b"a=1 b\r\n") != text_hash(b"a=1 c")


def test_a_full_table_stays_small_and_its_shares_stay_right() -> None:
    """Half of 40,000 items occur twice, a third of the other sketch's are among them; 2,000 places tell it to a few per cent."""
    draw = random.Random(3)
    once, twice = [draw.sample(range(2**32), 40_000)[part::2] for part in (0, 1)]
    small, other = Sketch(2_000), Sketch(3_000)
    items = once + twice + twice
    draw.shuffle(items)
    for start in range(0, len(items), 50):
        small.add(np.array(items[start : start + 50], dtype=np.uint32))
    known = set(once)
    fresh = [value for value in draw.sample(range(2**32), 20_000) if value not in known]
    other.add(np.array([*once[:10_000], *fresh], dtype=np.uint32))
    assert len(small.counts) <= 2_000 and not small.exact
    assert small.repeated() == pytest.approx(2 / 3, abs=0.04)
    assert small.copies() == pytest.approx(1 / 3, abs=0.03)
    assert other.found_in(small) == pytest.approx(1 / 3, abs=0.06)


def test_the_order_of_items_does_not_matter() -> None:
    values = np.random.default_rng(5).integers(0, 2**32, 5_000, dtype=np.uint32)
    one, two = Sketch(500), Sketch(500)
    one.add(values)
    for value in values[::-1]:
        two.add(np.array([value]))
    assert one.counts == two.counts and one.threshold == two.threshold
