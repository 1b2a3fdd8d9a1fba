"""The held-out split by repository."""

from __future__ import annotations

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.split import choose_heldout, coordinate


def test_share_of_many_repositories() -> None:
    sizes = {f"repository{i}": {"Python": 1_000} for i in range(4_000)}
    heldout = choose_heldout(sizes, 0.05, seed=1)
    assert heldout == {name for name in sizes if coordinate(name, 1) < 0.05}
    assert 150 <= len(heldout) <= 250  # 200 expected, standard deviation 14


def test_membership_follows_the_name_alone() -> None:
    small = {f"repository{i}": {"Python": 1_000} for i in range(500)}
    more = small | {f"other{i}": {"Python": 1_000} for i in range(500)}
    assert choose_heldout(small, 0.1, 7) == choose_heldout(more, 0.1, 7) & small.keys()
    assert choose_heldout(small, 0.1, 7) != choose_heldout(small, 0.1, 8)


@pytest.mark.parametrize("seed", range(20))
def test_a_large_repository_is_never_held_out(seed: int) -> None:
    sizes = {f"r{i}": {"Python": 100} for i in range(30)} | {"torch": {"Python": 500}}
    heldout = choose_heldout(sizes, 0.1, seed)
    assert "torch" not in heldout and heldout
    assert sum(sum(sizes[name].values()) for name in heldout) <= 2 * 0.1 * 3_500


@pytest.mark.parametrize("seed", range(20))
def test_a_language_of_several_repositories_is_represented_and_survives(seed: int) -> None:
    sizes = {f"r{i}": {"Python": 1_000} for i in range(50)}
    sizes |= {f"c{i}": {"C": 100, "Python": 100} for i in range(3)}
    sizes |= {"only": {"SQL": 10}, "pair": {"SQL": 10}}
    heldout = choose_heldout(sizes, 0.05, seed)
    held_c = sum(sizes[name].get("C", 0) for name in heldout)
    assert 0 < held_c <= 150


def test_small_cases() -> None:
    assert choose_heldout({}, 0.1, 1) == set()
    assert choose_heldout({"a": {"C": 10}, "b": {"C": 1}}, 0.01, 1) == {"b"}
    with pytest.raises(SnowError, match="one repository only"):
        choose_heldout({"a": {"C": 1}}, 0.1, 1)
