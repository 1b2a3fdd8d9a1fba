from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.training.samples import order_seed, phase_samples, validation_samples
from tests.training import small

PHASE = small.phase(4, blend={"standard": 1.0})


def read(name: str, tokens: Path, seed: int = 7) -> list[bytes]:
    data = phase_samples(name, PHASE, tokens, seed)
    return [data[index].tobytes() for index in range(len(data))]


def test_a_tier_used_in_two_phases_is_not_replayed(tokens: Path) -> None:
    first, second = read("general", tokens), read("continued", tokens)
    assert len(first) == len(second) == 4 * 8
    assert sum(one == other for one, other in zip(first, second, strict=True)) <= 2
    assert len(set(first) & set(second)) < len(first) // 2


def test_a_phase_has_the_same_order_again_and_another_with_another_seed(tokens: Path) -> None:
    assert read("general", tokens) == read("general", tokens)
    assert read("general", tokens) != read("general", tokens, seed=8)


def test_order_seeds_fit_the_index_and_do_not_meet() -> None:
    seeds = {order_seed(seed, phase) for seed in range(100) for phase in ("general", "continued", "enhanced", "1", "11")}
    assert len(seeds) == 500 and all(0 <= seed < 2**60 for seed in seeds)


@pytest.mark.parametrize("other", ["general", "continued"])
def test_validation_is_the_same_in_every_phase(other: str, tokens: Path) -> None:
    phases = {"general": PHASE, "continued": small.phase(9, blend={"high_quality": 1.0})}
    train = small.train(phases=phases)
    one, two = (validation_samples(train, phases[name], tokens, 7)["heldout"] for name in ("general", other))
    assert len(one) == len(two) == train.validation.samples
    assert all(np.array_equal(one[index], two[index]) for index in range(len(one)))


def test_a_phase_with_replay_reads_both_in_their_shares(tokens: Path) -> None:
    phase = small.phase(25, blend={"synthetic": 1.0}, replay={"high_quality": 0.84})
    data = phase_samples("enhanced", phase, tokens, 7)
    assert len(data) == 200 and {span.tier for index in range(200) for span in data.origin(index)} == {"synthetic", "high_quality"}
    read = [data.origin(index)[0].tier for index in range(200)]
    assert read.count("high_quality") == data.counts()["high_quality"] == pytest.approx(168, abs=1.5)
    assert read[:25].count("high_quality") == pytest.approx(21, abs=1.5)  # throughout, not one after the other


def test_the_mixture_of_a_phase_reaches_its_samples(tokens: Path) -> None:
    mixture = {"max_epochs": {"synthetic": 0.01}, "exhausted": "leave"}
    data = phase_samples("enhanced", small.phase(25, blend={"synthetic": 1.0, "high_quality": 1.0}, mixture=mixture), tokens, 7)
    assert data.epochs("synthetic") <= 0.01 < data.epochs("high_quality") and set(data.leaves()) == {"synthetic"}
    with pytest.raises(SnowError, match=r"no other languages|no Cobol|documents.jsonl.zst"):
        phase_samples("enhanced", small.phase(25, blend={"synthetic": 1.0}, mixture={"languages": {"synthetic": {"Cobol": 1}}}), tokens, 7)


def test_the_index_cache_may_be_named_by_the_environment(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "disk"))
    plain = read("general", tokens)
    data = phase_samples("general", PHASE, tokens, 7, "$NODE_DISK/index")
    assert [data[index].tobytes() for index in range(len(data))] == plain and list((tmp_path / "disk" / "index").glob("order-*"))
    with pytest.raises(SnowError, match=r"\$NO_SUCH_DISK/index names an environment variable that is not set"):
        phase_samples("general", PHASE, tokens, 7, "$NO_SUCH_DISK/index")
