"""Completion by a server: the real llama.cpp server with a real small model, and servers that misbehave."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import fixture
from megatron_snow.benchmarks.problem import Problem
from megatron_snow.benchmarks.sources import load
from megatron_snow.evaluation.arrow import evaluate
from megatron_snow.evaluation.language_model import LanguageModel
from megatron_snow.evaluation.language_model import load as load_model
from megatron_snow.evaluation.passing import run
from megatron_snow.evaluation.programs import INSTRUCT, prompt, question, stops
from megatron_snow.evaluation.settings import EvaluateSettings, ServedSettings
from megatron_snow.evaluation.writers import Writer, sample_seed, served
from megatron_snow.synthesis import LocalServerSettings
from megatron_snow.synthesis.server import local_server
from tests.synthesis.conftest import MODEL, Endpoint, Handler, completion, serve

__all__ = ["serve"]
SMALL = "SmolLM2-135M-Instruct"
SETTINGS = EvaluateSettings(max_new_tokens=24)


@pytest.fixture(scope="module")
def smol() -> LanguageModel:
    """The real model's tokenizer; its weights are the server's."""
    pytest.importorskip("gguf", reason="transformers reads GGUF files through it")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(fixture(SMALL), gguf_file=f"{SMALL}.Q4_1.gguf")
    return LanguageModel(None, tokenizer, 1024, (tokenizer.bos_token_id,), frozenset({tokenizer.eos_token_id}))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with local_server(LocalServerSettings(model=f"fixture:{SMALL}", slots=1, context=1024)) as (url, _):
        yield url


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return load("humaneval")[:2]


def post(url: str, **body: Any) -> dict[str, Any]:
    """Asked by hand, without any of ours."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return dict(json.loads(reply.read())["choices"][0])


def writer(lm: LanguageModel, settings: EvaluateSettings, url: str, journals: Path, **changes: Any) -> Writer:
    chosen = ServedSettings.model_validate({"endpoints": [url], "model": MODEL, "attempts": 2, "first_wait": 0.01, "timeout": 60} | changes)
    return served(lm, settings, chosen, 1, "general", journals)


def test_a_real_server_gets_the_prompts_and_its_answers_are_cut_and_judged(smol: LanguageModel, server: str, problems: list[Problem], tmp_path: Path) -> None:
    """Asked once for each: what it has read before and keeps changes a server's roundings, and so the texts of a model that wavers."""
    (problem,), settings = problems[:1], SETTINGS.model_copy(update={"stop": (" any(", "any(")})
    (row,) = run("humaneval", [problem], writer(smol, settings, server, tmp_path, model=SMALL), settings, tmp_path / "a.jsonl")
    text = f"<|im_start|>{prompt(problem)}"  # this model's texts begin with it, and the server does not add it itself
    free = post(f"{server}/completions", prompt=text, max_tokens=24, temperature=0, model=SMALL, cache_prompt=False)
    ends = [place for stop in (" any(", "any(") if (place := free["text"].find(stop)) >= 0]
    assert free["text"] and row["completion"] == free["text"][: min(ends, default=None)]
    assert row["finish"] == ("stop" if ends or free["finish_reason"] == "stop" else "length")

    rows, kept = [row], (tmp_path / "humaneval.jsonl").read_bytes()
    dead = writer(smol, settings, "http://127.0.0.1:9/v1", tmp_path, model=SMALL)
    assert run("humaneval", [problem], dead, settings, tmp_path / "b.jsonl") == rows, "what was answered is not asked again"
    assert (tmp_path / "humaneval.jsonl").read_bytes() == kept


def test_a_real_instruct_model_chats(smol: LanguageModel, server: str, problems: list[Problem], tmp_path: Path) -> None:
    chatting = SETTINGS.model_copy(update={"chat": True})
    (row,) = run("humaneval", problems[:1], writer(smol, chatting, server, tmp_path, model=SMALL), chatting, tmp_path / "a.jsonl")
    turn = [{"role": "user", "content": question(problems[0])}]
    by_hand = post(f"{server}/chat/completions", messages=turn, max_tokens=24, temperature=0, model=SMALL)["message"]["content"]
    assert len(by_hand) > 20 and row["completion"][:20] == by_hand[:20]
    assert smol.decode(smol.questions(["Add."])[0]).endswith("user\nAdd.\nassistant\n")


def says(text: str, **changes: Any) -> Callable[[Handler, dict[str, Any], int], None]:
    def behave(handler: Handler, body: dict[str, Any], turn: int) -> None:
        handler.reply(200, completion(text, **changes))

    return behave


def test_an_answer_in_words_is_judged_by_its_code(lm: LanguageModel, serve: Callable[..., Endpoint], tmp_path: Path) -> None:
    """The first block shows a call, the second is the answer; BigCodeBench's imports are put before it."""
    cases = "import unittest\nclass TestCases(unittest.TestCase):\n    def test(self): self.assertEqual(task_func(4), 2.0)\n"
    problem = Problem(
        "B/1", "import math\ndef task_func(x):\n    '''Root.'''\n", "task_func", "    return math.sqrt(x)\n", cases, INSTRUCT, "unittest",
        instruction="Root.", header="import math\ndef task_func(x):",
    )  # fmt: skip
    chatting = SETTINGS.model_copy(update={"chat": True})
    good = "Try:\n```python\ntask_func(4)\n```\nwith\n```python\ndef task_func(x):\n    return math.sqrt(x)\n```\nHave fun."
    answers = ((good, True), (good.replace("math.sqrt(x)", "x"), False), ("def task_func(x): return x / 2", True), ("Sorry.", False))
    for number, (text, passed) in enumerate(answers):
        endpoint = serve(says(text))
        (row,) = run("x", [problem], writer(lm, chatting, endpoint.url, tmp_path / f"{number}"), chatting, tmp_path / f"{number}.jsonl")
        assert row["passed"] == passed, row
        assert endpoint.asked[0]["messages"][0]["content"] == question(problem) and "stop" not in endpoint.asked[0]


@pytest.fixture(scope="module")
def lm(model: Path) -> LanguageModel:
    loaded = load_model(model, "fp32")
    return LanguageModel(loaded.model, loaded.tokenizer, 2048, loaded.prefix, loaded.ends)


def test_what_is_sent(lm: LanguageModel, serve: Callable[..., Endpoint], problems: list[Problem], tmp_path: Path) -> None:
    """The ids that the local model would get, the stop strings the server takes, no more tokens than there is room; too long is not asked."""

    def behave(handler: Handler, body: dict[str, Any], turn: int) -> None:
        handler.reply(200, json.dumps({"choices": [{"text": "    pass\nprint(1)", "finish_reason": "stop"}]}).encode())

    endpoint = serve(behave)
    long = replace(problems[1], task_id="long", prompt="x = 1\n" * 3000)
    ids = lm.prompts([prompt(problems[0])])[0]
    tight = LanguageModel(lm.model, lm.tokenizer, len(ids) + 7, lm.prefix, lm.ends)
    rows = run("humaneval", [problems[0], long], writer(tight, SETTINGS, endpoint.url, tmp_path / "a", stop_limit=4), SETTINGS, tmp_path / "a.jsonl")
    (body,) = endpoint.asked
    assert body["prompt"] == ids and body["max_tokens"] == 7 and body["temperature"] == 0 and body["stop"] == list(stops(problems[0])[:4])
    assert [row["finish"] for row in rows] == ["stop", "prompt too long"] and rows[0]["completion"] == "    pass", "the fifth stop string cuts here"


def echo_seed(handler: Handler, body: dict[str, Any], turn: int) -> None:
    handler.reply(200, json.dumps({"choices": [{"text": str(body["seed"]), "finish_reason": "length"}]}).encode())


def test_samples_have_seeds_of_their_own(lm: LanguageModel, serve: Callable[..., Endpoint], problems: list[Problem], tmp_path: Path) -> None:
    sampled = SETTINGS.model_copy(update={"samples": 3, "temperature": 0.7})
    seeds = []
    for name in ("a", "b"):
        endpoint = serve(echo_seed)
        rows = run("humaneval", problems, writer(lm, sampled, endpoint.url, tmp_path / name), sampled, tmp_path / f"{name}.jsonl")
        seeds.append([row["completion"] for row in rows])
        assert {(body["temperature"], body["top_p"]) for body in endpoint.asked} == {(0.7, 0.95)} and {row["finish"] for row in rows} == {"length"}
    assert len(set(seeds[0])) == 6 and seeds[0] == seeds[1]
    assert seeds[0][4] == str(sample_seed(1, problems[1], 1))


@pytest.mark.parametrize(
    ("behave", "said"),
    [
        (lambda handler, body, turn: handler.reply(400, b'{"error": {"message": "4 stops at most"}}'), r"refused a request .*4 stops at most.*stop_limit"),
        (lambda handler, body, turn: handler.reply(500, b"down"), "failed a request .*status 500"),
        (lambda handler, body, turn: handler.reply(200, b"<html>"), "failed a request .*not JSON"),
        (lambda handler, body, turn: handler.reply(401, b"{}"), r"refused the key.*evaluate\.endpoint\.api_key_env"),
    ],
)  # fmt: skip
def test_a_server_that_misbehaves_is_named(
    behave: Any, said: str, lm: LanguageModel, serve: Callable[..., Endpoint], problems: list[Problem], tmp_path: Path
) -> None:
    with pytest.raises(SnowError, match=said):
        run("humaneval", problems[:1], writer(lm, SETTINGS, serve(behave).url, tmp_path / "a"), SETTINGS, tmp_path / "a.jsonl")


def test_a_missing_server_and_another_model_are_named(lm: LanguageModel, serve: Callable[..., Endpoint], problems: list[Problem], tmp_path: Path) -> None:
    with pytest.raises(SnowError, match=r"no server answers at .*vllm serve snow-general.*evaluate\.endpoint\.endpoints$"):
        run("x", problems[:1], writer(lm, SETTINGS, "http://127.0.0.1:9/v1", tmp_path / "a", model="snow-{phase}"), SETTINGS, tmp_path / "a.jsonl")
    with pytest.raises(SnowError, match=r"has no model 'snow-general'; it has teacher: set evaluate\.endpoint\.model"):
        run("x", problems[:1], writer(lm, SETTINGS, serve().url, tmp_path / "b", model="snow-{phase}"), SETTINGS, tmp_path / "b.jsonl")
    with pytest.raises(ValidationError, match="not an endpoint"):
        ServedSettings.model_validate({"endpoints": ["localhost:8000"], "model": "x"})


def test_the_arrow_asks_the_server_and_measures_bits_itself(model: Path, corpus: Path, serve: Callable[..., Endpoint], tmp_path: Path) -> None:
    def behave(handler: Handler, body: dict[str, Any], turn: int) -> None:
        handler.reply(200, json.dumps({"choices": [{"text": "\n    return None\n", "finish_reason": "stop"}]}).encode())

    endpoint = serve(behave)
    settings = EvaluateSettings.model_validate({
        "dtype": "fp32", "heldout_bytes": "1KiB", "problem_limit": 2, "prompt_tokens": 2, "max_new_tokens": 4,
        "endpoint": {"endpoints": [endpoint.url], "model": MODEL},
    })  # fmt: skip
    evaluate(settings, 1, model, corpus, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["benchmarks"]["humaneval"]["problems"] == 2 and results["bits_per_byte"]["humaneval_solutions"] > 0
    assert settings.identity() == settings.model_copy(update={"endpoint": settings.endpoint.model_copy(update={"timeout": 3.0})}).identity()  # type: ignore[union-attr]
