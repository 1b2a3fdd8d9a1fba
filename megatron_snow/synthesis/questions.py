"""Which questions a run asks: a pure function of the settings, the seed, the prompt and the high-quality tier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from megatron_snow.artifacts.settings import digest
from megatron_snow.synthesis.prompt import Prompt
from megatron_snow.synthesis.seeds import Seed
from megatron_snow.synthesis.wire import Request, Sampling


@dataclass(frozen=True)
class Questions:
    """The requests, in order; made as they are iterated."""

    seeds: tuple[Seed, ...]
    prompts: tuple[Prompt, ...]
    """Each seed is given to one of them, by its hash."""
    sampling: Sampling
    seed: int

    def __len__(self) -> int:
        return len(self.seeds)

    def __iter__(self) -> Iterator[tuple[Seed, Request]]:
        sampling = asdict(self.sampling)
        for one in self.seeds:
            drawn = digest([self.seed, one.document_id])
            messages = self.prompt_of(one, drawn).messages(one.language, one.text)
            sampling_seed = int(drawn[:8], 16) >> 1  # 31 bits: servers take a signed 32-bit number
            yield one, Request(digest([messages, sampling, sampling_seed])[:32], messages, sampling_seed)

    def prompt_of(self, one: Seed, drawn: str | None = None) -> Prompt:
        """The prompt that a seed is given to."""
        return self.prompts[int((drawn or digest([self.seed, one.document_id]))[8:16], 16) % len(self.prompts)]
