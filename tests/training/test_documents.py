"""Documents kept apart in one sequence: what one holds reaches no other, and each is as if it had been run by itself."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from megatron_snow.parallel.settings import Layout
from tests.training import ranks, small
from tests.training.steps import SEQUENCE, VOCABULARY, Case, Given, engine_of
from tests.training.test_engine import MODEL, to_llama

STARTS = np.array([0, 13, 14, 29, SEQUENCE])
"""Documents of 13, 1, 15 and 3 tokens: none divides into the chunks of two context ranks."""
FIRST = int(STARTS[1])
TOKENS = np.random.default_rng(11).integers(0, small.VOCABULARY, SEQUENCE + 1)
PERTURBED = np.concatenate([np.random.default_rng(12).integers(0, small.VOCABULARY, FIRST), TOKENS[FIRST:]])
APART, CROSSING = Case(MODEL, apart=True), Case(MODEL)


class Seen(NamedTuple):
    """What a rank's model makes of a sample."""

    source: torch.Tensor
    """Which token of the sample each row is; -1 is padding."""
    logits: torch.Tensor
    """[rows, this rank's part of the vocabulary]"""
    gradients: list[torch.Tensor]
    """Of the loss of all documents but the first, by weight."""


def _batch(case: Case, tokens: np.ndarray, backend: Any, place: Any) -> tuple[dict[str, Any], torch.Tensor]:
    """This rank's batch of the sample, and which token of it each row is."""
    from megatron_snow.parallel.packing import pack
    from megatron_snow.training.batches import Batches

    [batch] = Batches(Given(tokens, STARTS), range, 1, small.VOCABULARY, place, backend, case.apart).step(place.data)
    [packing] = pack([[STARTS if case.apart else STARTS[[0, -1]]]], place.context, place.tensor)
    return batch, torch.from_numpy(packing.source[packing.part(place.context, place.context_rank)])


def _gradients(engine: Any, batches: list[dict[str, Any]]) -> list[torch.Tensor]:
    for chunk in engine.wrapped:
        chunk.zero_grad_buffer()
    engine._run(batches, forward_only=False)
    return [weight.main_grad.clone() for weight in engine.chunks[0].parameters()]


def _logits(engine: Any, batch: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return engine.chunks[0](batch["tokens"], batch["positions"], None, packed_seq_params=batch.get("packed"))[0]


def look(rank: int, world: int, rendezvous: str, layout: Layout, case: Case) -> list[Seen]:
    """What becomes of the sample, and of the one whose first document is another."""
    backend, place = ranks.joined(layout, rank, world, rendezvous)
    engine, _ = engine_of(case, layout, backend, place)
    seen = []
    for tokens in (TOKENS, PERTURBED):
        batch, source = _batch(case, tokens, backend, place)
        weights = (source >= FIRST)[None].float() * (place.context / (SEQUENCE - FIRST))
        seen.append(Seen(source, _logits(engine, batch), _gradients(engine, [{**batch, "weights": weights}])))
    return seen


@pytest.mark.parametrize(
    ("layout", "world"), [(Layout(), 1), (Layout(tensor=2), 2), (Layout(tensor=2, sequence_parallel=True), 2), (Layout(context=2), 2), (Layout(context=4), 4)]
)
def test_another_first_document_changes_no_other(layout: Layout, world: int) -> None:
    held = set()
    for one, other in ranks.run(look, world, layout, APART):
        first, rest = (one.source >= 0) & (one.source < FIRST), one.source >= FIRST
        assert torch.equal(one.logits[rest], other.logits[rest])
        assert all(torch.equal(*pair) for pair in zip(one.gradients, other.gradients, strict=True))
        assert (one.logits[first] - other.logits[first]).abs().max() > 0.1 and max(gradient.abs().max() for gradient in one.gradients) > 1e-3
        held |= set(one.source.tolist()) - {-1}
    assert held == set(range(SEQUENCE))


def test_without_the_setting_it_does() -> None:
    [(one, other)] = ranks.run(look, 1, Layout(), CROSSING)
    assert (one.logits[FIRST:] - other.logits[FIRST:]).abs().max() > 0.1
    assert max((a - b).abs().max() for a, b in zip(one.gradients, other.gradients, strict=True)) > 1e-3


class Together(NamedTuple):
    logits: list[torch.Tensor]
    """Of the documents packed, and of each run alone, in order."""
    gradients: list[list[torch.Tensor]]
    weights: dict[str, torch.Tensor]


def pack_and_part(rank: int, world: int, rendezvous: str) -> Together:
    """The sample packed with documents apart, and each of its documents as a plain sequence of its own."""
    from megatron_snow.model.initialise import sharded_parts

    backend, place = ranks.joined(Layout(), rank, world, rendezvous)
    engine, _ = engine_of(APART, Layout(), backend, place)
    packed, _ = _batch(APART, TOKENS, backend, place)
    row, count = torch.from_numpy(TOKENS)[None], len(STARTS) - 1
    alone = [
        {"tokens": row[:, a:b], "labels": row[:, a + 1 : b + 1], "positions": torch.arange(b - a)[None], "weights": torch.full((1, b - a), count / SEQUENCE)}
        for a, b in pairwise(STARTS.tolist())
    ]
    return Together(
        [_logits(engine, packed), torch.cat([_logits(engine, one) for one in alone])],
        [_gradients(engine, [packed]), _gradients(engine, alone)],
        {part.key: weight.detach() for weight, (part, *_) in sharded_parts(engine.chunks[0])},
    )


@pytest.fixture(scope="module")
def together() -> Together:
    return ranks.run(pack_and_part, 1)[0]


def test_each_document_is_as_if_run_alone(together: Together) -> None:
    torch.testing.assert_close(*together.logits, rtol=1e-4, atol=1e-5)
    for packed, alone in zip(*together.gradients, strict=True):
        torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-6)


def test_packed_documents_are_those_of_a_hugging_face_llama(together: Together) -> None:
    config: Any = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=MODEL.hidden, intermediate_size=MODEL.ffn, num_hidden_layers=MODEL.layers, num_attention_heads=MODEL.heads,
        num_key_value_heads=MODEL.kv_heads, tie_word_embeddings=False, rms_norm_eps=MODEL.norm_epsilon, rope_theta=float(MODEL.rope_theta),
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(to_llama(together.weights))
    row = torch.from_numpy(TOKENS)[None, :-1]
    positions = torch.cat([torch.arange(end - start) for start, end in pairwise(STARTS.tolist())])[None]
    with torch.no_grad():
        alone = torch.cat([model(row[:, a:b]).logits[0] for a, b in pairwise(STARTS.tolist())])
        by_positions = model(row, position_ids=positions, use_cache=False).logits[0]
    torch.testing.assert_close(together.logits[0], alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.logits[0], by_positions, rtol=1e-4, atol=1e-4)
