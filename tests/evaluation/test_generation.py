from __future__ import annotations

from pathlib import Path

import pytest
import torch

from megatron_snow.evaluation.generation import complete
from megatron_snow.evaluation.language_model import LanguageModel, load
from tests.evaluation.conftest import POSITIONS

PROMPTS = ["def fibonacci(n):", "x", "class Stack:\n    def __init__(self):\n        self.items = []", "import os\nimport sys\n\n", "é"]


@pytest.fixture(scope="module")
def lm(model: Path) -> LanguageModel:
    return load(model, "fp32")


def alone_ids(lm: LanguageModel, prompt: str, tokens: int) -> list[int]:
    """transformers' own greedy search, one prompt at a time, without a cache."""
    ids = torch.tensor([[*lm.prefix, *lm.encode([prompt])[0]]])
    out = lm.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=sorted(lm.ends),
        pad_token_id=0,
        use_cache=False,
    )
    return out[0, ids.shape[1] :].tolist()


def alone(lm: LanguageModel, prompt: str, tokens: int) -> str:
    return lm.decode(alone_ids(lm, prompt, tokens))


def test_a_batch_writes_what_each_prompt_alone_gets(lm: LanguageModel) -> None:
    together = complete(lm, lm.prompts(PROMPTS), 20)
    assert [row.text for row in together] == [alone(lm, prompt, 20) for prompt in PROMPTS]
    assert len({row.text for row in together}) == len(PROMPTS), "the model must tell the prompts apart for this test to mean anything"


def test_rows_leave_at_their_stop_string_and_the_others_go_on(lm: LanguageModel) -> None:
    free = [alone(lm, prompt, 20) for prompt in PROMPTS]
    stop = free[1][5:8]  # the second row stops here, early, unless it comes even earlier
    stopped = complete(lm, lm.prompts(PROMPTS), 20, [stop])
    assert stopped[1].finish == "stop"
    for row, text in zip(stopped, free, strict=True):
        assert row.text == text.split(stop)[0]
        assert (row.finish == "stop") == (stop in text)


def test_end_of_text_ends_a_row(lm: LanguageModel) -> None:
    free = alone_ids(lm, PROMPTS[0], 10)
    place = max(free.index(token) for token in free)  # the token that comes first as late as possible
    ending = LanguageModel(lm.model, lm.tokenizer, lm.positions, lm.prefix, frozenset({free[place]}))
    row = complete(ending, lm.prompts(PROMPTS[:1]), 10)[0]
    assert place > 0 and row.finish == "end" and row.text == lm.decode(free[:place])


def test_the_models_positions_are_the_limit(lm: LanguageModel) -> None:
    fits, full = "a b " * 30, "a b " * 350
    room = POSITIONS - len(lm.prefix) - len(lm.encode([fits])[0])
    assert 0 < room < 40
    rows = complete(lm, lm.prompts([fits, full, "y"]), 40)
    assert [row.finish for row in rows] == ["length", "prompt too long", "length"] and rows[1].text == ""
    assert rows[0].text == alone(lm, fits, room) and rows[2].text == alone(lm, "y", 40)


def test_no_prompts(lm: LanguageModel) -> None:
    assert complete(lm, [], 5) == []
