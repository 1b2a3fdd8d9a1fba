"""The sample under a cap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from megatron_snow.corpus.sampling import Candidate, hash_order, sample

CANDIDATES = st.lists(st.builds(Candidate, st.binary(min_size=8, max_size=8), st.integers(0, 5), st.integers(0, 1000)), max_size=40)


@given(CANDIDATES, st.integers(0, 20_000))
def test_stays_under_the_cap_and_takes_all_where_it_can(candidates: list[Candidate], cap: int) -> None:
    taken = sample(candidates, cap)
    assert taken == sorted(set(taken))
    assert sum(candidates[index].size for index in taken) <= cap
    if sum(c.size for c in candidates) <= cap:
        assert taken == list(range(len(candidates)))


def test_spreads_over_groups_of_any_size() -> None:
    big = [Candidate(hash_order(1, f"big{i}"), "torch", 100) for i in range(1_000)]
    small = [Candidate(hash_order(1, f"{group}{i}"), group, 100) for group in range(20) for i in range(10)]
    taken = [(big + small)[index] for index in sample(big + small, 40_000)]
    assert sum(c.size for c in taken) > 38_000
    assert sum(1 for c in taken if c.group != "torch") == 200  # the small ones are there whole
    assert 180 <= sum(1 for c in taken if c.group == "torch") <= 200


def test_order_of_listing_does_not_matter_and_the_seed_does() -> None:
    def names(seed: int, reverse: bool) -> set[int]:
        listed = [(i, Candidate(hash_order(seed, str(i)), i % 7, 50 + i)) for i in range(300)]
        listed = listed[::-1] if reverse else listed
        return {listed[index][0] for index in sample([c for _, c in listed], 9_000)}

    assert names(1, False) == names(1, True) != names(2, False)


def test_a_file_larger_than_the_share_does_not_block_its_group() -> None:
    candidates = [Candidate(b"0", "a", 10_000), Candidate(b"1", "a", 10), Candidate(b"0", "b", 10), Candidate(b"1", "b", 10)]
    assert sample(candidates, 100) == [1, 2, 3]
