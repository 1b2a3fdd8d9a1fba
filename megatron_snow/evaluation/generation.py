"""Completion of many prompts at once, greedy or sampled.

Prompts of a batch are padded on the left, so that all rows grow at the same place; positions count from each row's own
start. A row that is finished leaves the batch and its keys and values are dropped: the tail of a batch, a few rows
that never stop, costs what a few rows cost. In fp32 the result is that of one prompt at a time (tested); in bf16 a
tie between two tokens can fall differently in another batch. Each sampled row draws
from a generator of its own, so that its text does not depend on its company.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from megatron_snow.evaluation.language_model import LanguageModel

Finish = Literal["stop", "end", "length", "prompt too long"]


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt."""

    text: str
    """Up to the first stop string, which is left out."""
    finish: Finish
    """``stop``: a stop string; ``end``: the end-of-text token; ``length``: tokens or positions ran out; ``prompt too long``: no position was left."""


class _Row:
    """One prompt being completed."""

    def __init__(self, lm: LanguageModel, prompt: list[int], max_new_tokens: int, stops: Sequence[str], seed: int) -> None:
        self.lm, self.prompt, self.stops = lm, prompt, stops
        self.generator = torch.Generator().manual_seed(seed)
        self.limit = min(max_new_tokens, lm.positions - len(prompt))
        self.ids: list[int] = []
        self.finish: Finish | None = None if self.limit > 0 else "prompt too long"
        self._tail = max((len(stop.encode()) for stop in stops), default=0)  # a token holds a byte at least: a stop string ends within so many

    def add(self, token: int) -> None:
        if token in self.lm.ends:
            self.finish = "end"
            return
        self.ids.append(token)
        if self._tail and any(stop in self.lm.decode(self.ids[-self._tail :]) for stop in self.stops):
            self.finish = "stop"
        elif len(self.ids) == self.limit:
            self.finish = "length"

    def completion(self) -> Completion:
        # decoded after its prompt: tokenizers of the sentencepiece kind drop the space a text begins with
        text = self.lm.decode(self.prompt + self.ids)[len(self.lm.decode(self.prompt)) :]
        assert self.finish is not None
        return Completion(cut(text, self.stops), self.finish)


def cut(text: str, stops: Sequence[str]) -> str:
    """``text`` up to the first of ``stops``."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen: the likeliest (temperature 0), or drawn from the likeliest that hold ``top_p`` of the probability."""

    temperature: float = 0.0
    top_p: float = 1.0


@torch.inference_mode()
def complete(
    lm: LanguageModel, prompts: Sequence[list[int]], max_new_tokens: int, stops: Sequence[str] = (), sampling: Sampling = Sampling(), seeds: Sequence[int] = ()
) -> list[Completion]:
    """Complete ``prompts`` (``LanguageModel.prompts``) together. ``seeds``: one for each prompt where tokens are drawn."""
    rows = [_Row(lm, ids, max_new_tokens, stops, seed) for ids, seed in zip(prompts, seeds or [0] * len(prompts), strict=True)]
    active = [row for row in rows if row.finish is None]
    if active:
        _run(lm, active, sampling)
    return [row.completion() for row in rows]


def _drawn(logits: torch.Tensor, rows: Sequence[_Row], sampling: Sampling) -> torch.Tensor:
    """A token for each row, (rows,): nucleus sampling (Holtzman et al. 2020)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities, tokens = torch.softmax(logits.float() / sampling.temperature, -1).sort(-1, descending=True)
    probabilities[probabilities.cumsum(-1) - probabilities >= sampling.top_p] = 0.0  # the first that reaches top_p stays
    totals = probabilities.cumsum(-1)
    points = torch.tensor([torch.rand((), generator=row.generator).item() for row in rows], device=logits.device)[:, None] * totals[:, -1:]
    places = torch.searchsorted(totals, points, right=True).clamp(max=logits.shape[-1] - 1)
    return tokens.gather(-1, places).squeeze(-1)


def _run(lm: LanguageModel, active: list[_Row], sampling: Sampling) -> None:
    longest = max(len(row.prompt) for row in active)
    tokens = torch.tensor([[lm.prefix[0]] * (longest - len(row.prompt)) + row.prompt for row in active])
    mask = torch.tensor([[0] * (longest - len(row.prompt)) + [1] * len(row.prompt) for row in active])
    tokens, mask = tokens.to(lm.device), mask.to(lm.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache: Any = None
    while True:
        out = lm.model(input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, chosen = out.past_key_values, _drawn(out.logits[:, -1], active, sampling)
        for row, token in zip(active, chosen.tolist(), strict=True):
            row.add(token)
        going = [place for place, row in enumerate(active) if row.finish is None]
        if not going:
            return
        tokens, positions = chosen[:, None], positions[:, -1:] + 1
        if len(going) < len(active):
            active, keep = [active[place] for place in going], torch.tensor(going, device=lm.device)
            tokens, positions, mask = tokens[keep], positions[keep], mask[keep]
            cache.batch_select_indices(keep)
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], dim=1)
