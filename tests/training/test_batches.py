from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.parallel.groups import Place
from megatron_snow.parallel.settings import Layout
from megatron_snow.training.batches import Batches
from tests.training import ranks

BACKEND: Any = SimpleNamespace(device=torch.device("cpu"))


class Numbered:
    """Sample i is i, i + 1, ..., i + 16."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> np.ndarray:
        return np.arange(index, index + 17)


def of(batch: int) -> Callable[[int], range]:
    """The samples of a step of a constant batch."""
    return lambda step: range(step * batch, (step + 1) * batch)


def place(data_rank: int, data: int) -> Place:
    return Place(rank=data_rank, world=data, tensor_rank=0, pipeline_rank=0, data_rank=data_rank, data=data, context=1)


@pytest.mark.parametrize("data", [1, 2, 4])
def test_a_step_reads_its_own_samples_whatever_the_replicas(data: int) -> None:
    for step in (0, 3):
        read = [index for rank in range(data) for index in Batches(Numbered(), of(8), 2, 99, place(rank, data), BACKEND).indices(step)]
        assert read == list(range(step * 8, step * 8 + 8))


def slices(rank: int, world: int, rendezvous: str) -> dict[str, list[Any]]:
    backend, here = ranks.joined(Layout(context=world), rank, world, rendezvous)
    batches = Batches(Numbered(), of(4), 2, 99, here, backend).step(1)
    return {name: [batch[name].tolist() for batch in batches] for name in ("tokens", "labels", "positions")}


def test_labels_follow_tokens_and_context_ranks_share_a_sequence() -> None:
    whole = ranks.run(slices, 1)[0]
    assert whole["tokens"] == [[list(range(4, 20)), list(range(5, 21))], [list(range(6, 22)), list(range(7, 23))]]
    assert whole["labels"] == [[list(range(5, 21)), list(range(6, 22))], [list(range(7, 23)), list(range(8, 24))]]
    assert whole["positions"][0][0] == list(range(16))
    first, second = ranks.run(slices, 2)
    assert first["positions"][0][0] == [0, 1, 2, 3, 12, 13, 14, 15]
    assert second["positions"][0][0] == [4, 5, 6, 7, 8, 9, 10, 11]
    assert first["tokens"][0][0] == [4, 5, 6, 7, 16, 17, 18, 19]


def token_outside(rank: int, world: int, rendezvous: str) -> None:
    backend, here = ranks.joined(Layout(), rank, world, rendezvous)
    Batches(Numbered(), of(4), 2, 10, here, backend).step(0)


def test_tokens_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(SnowError, match="token 17 is outside the vocabulary of 10: made with another tokenizer"):
        ranks.run(token_outside, 1)
