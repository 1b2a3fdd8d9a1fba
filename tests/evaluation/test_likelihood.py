from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from megatron_snow.evaluation.language_model import LanguageModel, load
from megatron_snow.evaluation.likelihood import batches, by_language, continuation_rows, heldout_rows, per_byte, windows
from tests.evaluation.conftest import POSITIONS


@pytest.fixture(scope="module")
def lm(model: Path) -> LanguageModel:
    return load(model, "fp32")


def plain_bits(lm: LanguageModel, ids: list[int], first: int, stride: int) -> float:
    """The definition, unbatched and in float64: each token from the window that starts at the first multiple of ``stride`` that reaches it."""
    starts = [next(start for start in range(0, len(ids), stride) if start + POSITIONS >= place) for place in range(first, len(ids))]
    model = lm.model.double()
    with torch.no_grad():
        seen = {start: model(input_ids=torch.tensor([ids[start : start + POSITIONS]])).logits[0].log_softmax(-1) for start in set(starts)}
    lm.model.float()
    return -sum(seen[start][place - start - 1, ids[place]].item() for start, place in zip(starts, range(first, len(ids)), strict=True)) / math.log(2)


def test_whole_texts_match_the_models_own_loss(lm: LanguageModel) -> None:
    texts = ["def add(a, b):\n    return a + b\n", "é = 'naïve'\n", "x"]
    measured = by_language(heldout_rows(lm, {"Python": texts}, overlap=0.5, batch_tokens=64))
    total = 0.0
    for ids in lm.encode(texts):
        whole = torch.tensor([[*lm.prefix, *ids]])
        labels = whole.clone()
        labels[:, : len(lm.prefix)] = -100
        with torch.no_grad():
            total += lm.model.double()(input_ids=whole, labels=labels).loss.item() * len(ids) / math.log(2)
    lm.model.float()
    size = sum(len(text.encode()) for text in texts)
    assert measured == {"all": pytest.approx(total / size, rel=1e-5), "Python": pytest.approx(total / size, rel=1e-5)}


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_long_texts_match_a_pass_for_each_window(lm: LanguageModel, overlap: float) -> None:
    texts = {"A": ["\n".join(f"value_{n} = {n} * {n}" for n in range(20))], "B": ["short\n", "for x in range(9):\n    print(x, x ** 2)\n" * 12]}
    measured = by_language(heldout_rows(lm, texts, overlap, batch_tokens=3 * POSITIONS))
    stride = POSITIONS - int(overlap * POSITIONS)
    bits, sizes = {}, {}
    for name, group in texts.items():
        encoded = [[*lm.prefix, *ids] for ids in lm.encode(group)]
        bits[name], sizes[name] = sum(plain_bits(lm, ids, len(lm.prefix), stride) for ids in encoded), sum(len(text) for text in group)
    assert max(len(ids) for ids in encoded) > 2 * POSITIONS
    for name in texts:
        assert measured[name] == pytest.approx(bits[name] / sizes[name], rel=1e-5)
    assert measured["all"] == pytest.approx(sum(bits.values()) / sum(sizes.values()), rel=1e-5)


def test_continuations_are_scored_alone_and_after_their_prompt(lm: LanguageModel) -> None:
    pairs = [("def f(x):", "\n    return x\n"), ("# " + "very long prompt " * 40, "\npass\n")]
    expected, size = 0.0, 0
    for prompt, answer in pairs:
        first, second = lm.encode([prompt, answer])
        ids = [*lm.prefix, *first, *second]
        expected += plain_bits(lm, ids, len(ids) - len(second), POSITIONS // 2)
        size += len(answer.encode())
    rows = continuation_rows(lm, "HumanEval", [(str(place), "Python", *pair) for place, pair in enumerate(pairs)], 0.5, 256)
    assert [(row["id"], row["bytes"]) for row in rows] == [(str(place), len(answer.encode())) for place, (_, answer) in enumerate(pairs)]
    assert per_byte(rows) == pytest.approx(expected / size, rel=1e-5)


@pytest.mark.parametrize(("length", "positions", "overlap", "first"), [(2, 4, 2, 1), (5, 4, 0, 1), (6, 4, 0, 1), (100, 7, 3, 1), (100, 7, 6, 42), (3, 7, 3, 2)])
def test_windows_score_each_token_once(length: int, positions: int, overlap: int, first: int) -> None:
    ids = list(range(length))
    scored = [token for piece in windows(0, ids, first, positions, overlap) for token in piece.ids[piece.scored :]]
    assert scored == ids[first:]
    pieces = list(windows(0, ids, first, positions, overlap))
    assert all(piece.ids == ids[piece.ids[0] : piece.ids[-1] + 1] and 1 <= piece.scored < len(piece.ids) <= positions + 1 for piece in pieces)
    assert all(piece.scored > overlap or piece.ids[0] == 0 for piece in pieces), "a later window must give every scored token `overlap` tokens of context"


def test_batches_hold_every_window_within_the_limit() -> None:
    pieces = [piece for size in (2, 9, 3, 17, 17, 40, 5) for piece in windows(size, list(range(size)), 1, 100, 0)]
    made = list(batches(pieces, 32))
    assert sorted(len(piece.ids) for batch in made for piece in batch) == sorted(len(piece.ids) for piece in pieces)
    assert all(len(batch) == 1 or len(batch) * (max(len(piece.ids) for piece in batch) - 1) <= 32 for batch in made)


def test_special_tokens_spelled_out_are_text(lm: LanguageModel) -> None:
    assert lm.prefix == (0, lm.tokenizer.convert_tokens_to_ids("<file_sep>"))
    assert 0 not in lm.encode(["a <|endoftext|> b"])[0]
