"""Bits per byte: how well a model predicts text, whatever its tokenizer.

    bits per byte = - sum over the scored tokens of log2 p(token | the tokens before it) / UTF-8 bytes of the scored text

The first token is predicted from the model's prefix (``LanguageModel``). Where a text is longer than the model's positions, windows overlap and
each token is scored once, in the first window that reaches it. Windows are batched by length and padded on the
right, where causal attention cannot see the padding; sums are in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


def bits_per_byte(lm: LanguageModel, groups: dict[str, list[str]], overlap: float, batch_tokens: int) -> dict[str, float]:
    """Of each group of texts, and under ``all`` of their union: the mean over bytes, not over groups."""
    names = [name for name, texts in groups.items() for _ in texts]
    texts = [text for group in groups.values() for text in group]
    sums = bits(lm, [([*lm.prefix, *ids], len(lm.prefix)) for ids in lm.encode(texts)], overlap, batch_tokens, "held-out text")
    totals: dict[str, list[float]] = {"all": [0.0, 0]}
    for name, text, amount in zip(names, texts, sums, strict=True):
        for key in ("all", name):
            total = totals.setdefault(key, [0.0, 0])
            total[0] += amount
            total[1] += len(text.encode())
    return {name: amount / size for name, (amount, size) in totals.items()}


def continuation_bits_per_byte(lm: LanguageModel, pairs: Sequence[tuple[str, str]], overlap: float, batch_tokens: int) -> float:
    """Of the second texts, each given the first: sum of bits / sum of bytes. The two are tokenized apart, as in generation."""
    prompts, answers = lm.encode([first for first, _ in pairs]), lm.encode([second for _, second in pairs])
    texts = [([*lm.prefix, *prompt, *answer], len(lm.prefix) + len(prompt)) for prompt, answer in zip(prompts, answers, strict=True)]
    return sum(bits(lm, texts, overlap, batch_tokens, "canonical solutions")) / sum(len(answer.encode()) for _, answer in pairs)
