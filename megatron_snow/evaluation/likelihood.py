"""Bits per byte: how well a model predicts text, whatever its tokenizer.

    bits per byte = - sum over the scored tokens of log2 p(token | the tokens before it) / UTF-8 bytes of the scored text

The first token is predicted from the model's prefix (``LanguageModel``). Where a text is longer than the model's positions, windows overlap and
each token is scored once, in the first window that reaches it. Windows are batched by length and padded on the
right, where causal attention cannot see the padding; sums are in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
import torch.nn.functional as F

from megatron_snow.artifacts.progress import Progress
from megatron_snow.evaluation.language_model import LanguageModel

_ROWS = 1024  # token positions whose logits are widened to fp32 at a time (ours: 256 MiB at a vocabulary of 64,000)


@dataclass(frozen=True)
class Window:
    """A stretch of a text that fits the model: ``ids[scored:]`` are predicted, each from all ids before it."""

    text: int
    """Which of the texts."""
    ids: list[int]
    scored: int


def windows(text: int, ids: list[int], first: int, positions: int, overlap: int) -> Iterator[Window]:
    """Windows of at most ``positions`` inputs that score ``ids[first:]``, each token once; ``first`` >= 1, ``overlap`` < ``positions``."""
    start, done = 0, first
    while done < len(ids):
        last = min(start + positions, len(ids) - 1)  # the last input predicts one beyond itself
        if last >= done:
            yield Window(text, ids[start : last + 1], done - start)
            done = last + 1
        start += positions - overlap


def batches(pieces: Sequence[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Windows of similar length together, ``batch_tokens`` a batch at most with padding (a longer window alone); longest first."""
    batch: list[Window] = []
    for piece in sorted(pieces, key=lambda p: -len(p.ids)):
        if batch and (len(batch) + 1) * (len(batch[0].ids) - 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


@torch.inference_mode()
def window_bits(lm: LanguageModel, batch: Sequence[Window]) -> list[float]:
    """Bits of each window's scored tokens."""
    longest = max(len(piece.ids) for piece in batch) - 1
    inputs = torch.full((len(batch), longest), lm.prefix[0])
    targets = torch.full((len(batch), longest), -100)  # cross_entropy's mark for "not scored"
    for row, piece in enumerate(batch):
        inputs[row, : len(piece.ids) - 1] = torch.tensor(piece.ids[:-1])
        targets[row, piece.scored - 1 : len(piece.ids) - 1] = torch.tensor(piece.ids[piece.scored :])
    logits = lm.model(input_ids=inputs.to(lm.device), use_cache=False).logits.flatten(0, 1)
    flat = targets.flatten().to(lm.device)
    losses = torch.cat(
        [F.cross_entropy(part.float(), goal, reduction="none") for part, goal in zip(torch.split(logits, _ROWS), torch.split(flat, _ROWS), strict=True)]
    )
    return (losses.view_as(targets).double().sum(1) / torch.log(torch.tensor(2.0, dtype=torch.float64))).tolist()


def bits(lm: LanguageModel, texts: Sequence[tuple[list[int], int]], overlap: float, batch_tokens: int, label: str) -> list[float]:
    """Bits of each text ``(ids, first)``: of ``ids[first:]``, where ``ids`` begin with the model's prefix. ``overlap`` is a share of a window."""
    repeated = int(overlap * lm.positions)
    pieces = [piece for number, (ids, first) in enumerate(texts) for piece in windows(number, ids, first, lm.positions, repeated)]
    sums = [0.0] * len(texts)
    with Progress(label, total=sum(len(piece.ids) - 1 for piece in pieces), unit="tokens") as bar:
        for batch in batches(pieces, batch_tokens):
            for piece, amount in zip(batch, window_bits(lm, batch), strict=True):
                sums[piece.text] += amount
            bar.advance(sum(len(piece.ids) - 1 for piece in batch))
    return sums


class Scored(TypedDict):
    """A row of bits.jsonl: what one text cost."""

    set: str
    """``heldout``, a tier, or the benchmark whose canonical solution it is: ``HumanEval``."""
    language: str
    id: str
    """The problem's task id; of files their place in the sample, which is the same for every model of a recipe."""
    bits: float
    bytes: int


def heldout_rows(lm: LanguageModel, groups: dict[str, list[str]], overlap: float, batch_tokens: int) -> list[Scored]:
    """What each held-out text cost, by language."""
    return text_rows(lm, "heldout", groups, overlap, batch_tokens, "held-out text")


def text_rows(lm: LanguageModel, name: str, groups: dict[str, list[str]], overlap: float, batch_tokens: int, label: str) -> list[Scored]:
    """What each text of the set ``name`` cost, by language; ``label`` is the progress bar's."""
    named = [(language, f"{language}/{place}", text) for language, texts in groups.items() for place, text in enumerate(texts)]
    encoded = [([*lm.prefix, *ids], len(lm.prefix)) for ids in lm.encode([text for *_, text in named])]
    sums = bits(lm, encoded, overlap, batch_tokens, label)
    return [
        Scored(set=name, language=language, id=place, bits=amount, bytes=len(text.encode()))
        for (language, place, text), amount in zip(named, sums, strict=True)
    ]


def continuation_rows(lm: LanguageModel, benchmark: str, items: Sequence[tuple[str, str, str, str]], overlap: float, batch_tokens: int) -> list[Scored]:
    """What each answer cost, given its prompt; ``items``: id, language, prompt, answer. The two are tokenized apart, as in generation."""
    prompts, answers = lm.encode([item[2] for item in items]), lm.encode([item[3] for item in items])
    texts = [([*lm.prefix, *prompt, *answer], len(lm.prefix) + len(prompt)) for prompt, answer in zip(prompts, answers, strict=True)]
    sums = bits(lm, texts, overlap, batch_tokens, "canonical solutions")
    return [
        Scored(set=benchmark, language=language, id=name, bits=amount, bytes=len(answer.encode()))
        for (name, language, _, answer), amount in zip(items, sums, strict=True)
    ]


def per_byte(rows: Sequence[Scored]) -> float:
    """Bits per byte of some rows: the mean over bytes, not over texts."""
    return sum(row["bits"] for row in rows) / sum(row["bytes"] for row in rows)


def by_language(rows: Sequence[Scored]) -> dict[str, float]:
    """Bits per byte of all rows (``all``) and of each language."""
    languages = dict.fromkeys(row["language"] for row in rows)
    return {"all": per_byte(rows), **{language: per_byte([row for row in rows if row["language"] == language]) for language in languages}}
