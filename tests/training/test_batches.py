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

    def sample(self, i: int) -> SimpleNamespace:
        return SimpleNamespace(tokens=np.arange(i, i + 17), cumulative_lengths=np.array([0, 16]))


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


class Cut(Numbered):
    """The same in documents of 3, 1 and 12 tokens."""

    def sample(self, i: int) -> SimpleNamespace:
        return SimpleNamespace(tokens=np.arange(i, i + 17), cumulative_lengths=np.array([0, 3, 4, 16]))


@pytest.mark.parametrize("context", [1, 2])
def test_documents_apart_are_one_row_with_weights_that_make_the_mean(context: int) -> None:
    seen: dict[tuple[int, int], int] = {}
    for rank in range(context):
        here = Place(rank=rank, world=context, tensor_rank=0, pipeline_rank=0, data_rank=0, data=1, context=context, context_rank=rank)
        [batch] = Batches(Cut(), of(2), 2, 99, here, BACKEND, apart=True).step(1)
        row = {name: batch[name][0] for name in ("tokens", "labels", "positions", "weights")}
        assert {name: len(values) for name, values in row.items()} == dict.fromkeys(row, 32 if context == 1 else 20)  # 4 + 4 + 12 tokens with padding, twice
        real = row["weights"] > 0
        assert torch.equal(row["labels"][real], row["tokens"][real] + 1) and row["tokens"][~real].unique().tolist() == [0] * (context > 1)
        torch.testing.assert_close(row["weights"][real], torch.full((int(real.sum()),), context / 32))
        for token, position in zip(row["tokens"][real].tolist(), row["positions"][real].tolist(), strict=True):
            seen[token, position] = seen.get((token, position), 0) + 1
        assert batch["packed"].cu_seqlens_q.tolist() == ([0, 3, 4, 16, 19, 20, 32] if context == 1 else [0, 4, 8, 20, 24, 28, 40])
    places = [*range(3), 0, *range(12)]
    expected = [(2 + sample + place, position) for sample in range(2) for place, position in enumerate(places)]
    assert sorted(key for key, count in seen.items() for _ in range(count)) == sorted(expected)


def token_outside(rank: int, world: int, rendezvous: str) -> None:
    backend, here = ranks.joined(Layout(), rank, world, rendezvous)
    Batches(Numbered(), of(4), 2, 10, here, backend).step(0)


def test_tokens_of_another_tokenizer_are_refused() -> None:
    with pytest.raises(SnowError, match="token 17 is outside the vocabulary of 10: made with another tokenizer"):
        ranks.run(token_outside, 1)
