"""Requests that fail for good, endpoints that want time, limits, rates and budgets."""

import itertools
import json
import threading
import time

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.synthesis import synthesize
from megatron_snow.synthesis.settings import EndpointSettings
from tests.synthesis.conftest import DECONTAMINATION, answer_slowly, answer_well, questions, settings


def poisoned(poison: list[str]):
    """Never answers the request that comes first."""

    def behave(handler, body, turn):
        text = body["messages"][-1]["content"]
        if turn == 0:
            poison.append(text)
        time.sleep(0.02)
        if text in poison:
            handler.reply(500, b"{}")
        else:
            answer_well(handler, body, turn)

    return behave


def test_a_request_that_never_gets_through_is_left_for_the_next_run(serve, quality, tokenizer, work):
    poison: list[str] = []
    endpoint = serve(poisoned(poison))
    with pytest.raises(SnowError, match=r"1 requests failed for good, 5 %.*status 500.*same command again: .*journal\.jsonl keeps the 19 answers"):
        synthesize(settings(endpoint, requests=20), 1, quality, tokenizer, work, DECONTAMINATION)
    assert not (work / "synthetic").exists() and not (work / "summary.json").exists()
    asked = len(endpoint.asked)
    endpoint.behave = answer_well
    assert synthesize(settings(endpoint, requests=20), 1, quality, tokenizer, work, DECONTAMINATION)["accepted"] == 20
    assert questions(endpoint)[asked:] == poison


def test_a_request_that_fails_for_good_blocks_nothing_where_so_many_may(serve, quality, tokenizer, work):
    poison: list[str] = []
    endpoint = serve(poisoned(poison))
    chosen = settings(endpoint, requests=20, max_failed=0.05, concurrency=1)  # alone in flight: nothing else can show that the server is well
    counts = synthesize(chosen, 1, quality, tokenizer, work, DECONTAMINATION)
    assert (counts["accepted"], counts["answers"], counts["unanswered"], counts["requests"]) == (19, 19, 1, 20)
    assert [text for text in questions(endpoint) if text in poison] == poison * chosen.attempts
    asked = len(endpoint.asked)
    again = synthesize(chosen.model_copy(update={"retry_failed": False}), 1, quality, tokenizer, work, DECONTAMINATION)
    assert again == counts and len(endpoint.asked) == asked
    endpoint.behave = answer_well
    counts = synthesize(chosen, 1, quality, tokenizer, work, DECONTAMINATION)  # by default it is asked again where a run goes on
    assert counts["accepted"] == 20 and counts["unanswered"] == 0 and questions(endpoint)[asked:] == poison


def test_many_failures_in_a_row_end_the_run_early(serve, quality, tokenizer, work):
    endpoint = serve(lambda handler, body, turn: handler.reply(500, b'{"error": {"message": "the engine is dead"}}'))
    with pytest.raises(SnowError, match=r"16 requests in a row failed for good, 1 tries each.*the engine is dead"):
        synthesize(settings(endpoint, requests=80, attempts=1, first_wait=0.001), 1, quality, tokenizer, work, DECONTAMINATION)
    assert len(endpoint.asked) < 40


def test_an_endpoint_that_asks_for_time_gets_it_and_no_tries_are_lost(serve, quality, tokenizer, work):
    """Far more refusals than tries; while the endpoint rests nothing is sent to it."""
    times: list[tuple[float, bool]] = []

    def behave(handler, body, turn):
        busy = turn % 2 == 0
        times.append((time.monotonic(), busy))
        if busy:
            handler.reply(429, b'{"error": {"message": "slow down"}}', {"retry-after": "0.1"})
        else:
            answer_well(handler, body, turn)

    counts = synthesize(settings(serve(behave), requests=10, concurrency=1, attempts=2), 1, quality, tokenizer, work, DECONTAMINATION)
    assert counts["accepted"] == 10 and counts["unanswered"] == 0
    assert all(after - before >= 0.09 for (before, busy), (after, _) in itertools.pairwise(times) if busy)


def full_first(limit: int, met: list[bool]):
    """Answers nobody before ``limit`` are in flight, however long a busy machine takes to let them in; slowly from then on."""
    full = threading.Event()

    def behave(handler, body, turn):
        if turn == limit - 1:
            full.set()
        met.append(full.wait(60))
        answer_slowly(handler, body, turn)

    return behave


def test_limits_of_an_endpoint_are_its_own(serve, quality, tokenizer, work):
    met: list[bool] = []
    narrow, wide = serve(full_first(2, met)), serve(full_first(8, met))
    chosen = settings(narrow, wide, requests=40, concurrency=8, timeout=90).model_copy(
        update={"endpoints": (EndpointSettings(url=narrow.url, concurrency=2), EndpointSettings(url=wide.url))}
    )
    assert synthesize(chosen, 1, quality, tokenizer, work, DECONTAMINATION)["accepted"] == 40
    assert (narrow.most_busy, wide.most_busy) == (2, 8) and len(narrow.asked) < len(wide.asked)
    assert met == [True] * 40


@pytest.mark.parametrize("limit", [{"requests_per_minute": 1200}, {"tokens_per_minute": 1200 * 60}])  # 60: what each answer counts here
def test_rates_of_an_endpoint_are_kept(serve, quality, tokenizer, work, limit):
    endpoint = serve()
    chosen = settings(endpoint, requests=35, concurrency=4).model_copy(update={"endpoints": (EndpointSettings(url=endpoint.url, **limit),)})
    start = time.monotonic()
    assert synthesize(chosen, 1, quality, tokenizer, work, DECONTAMINATION)["accepted"] == 35
    assert time.monotonic() - start > 10 / 20  # 20 a second, the first second's at once, and four in flight before their tokens are known


@pytest.mark.parametrize(("spend", "spent"), [({"tokens": 300}, 0), ({"money": 0.5, "prompt_price": 10_000, "completion_price": 0}, 0.5)])
def test_the_budget_ends_the_run(serve, quality, tokenizer, work, spend, spent):
    chosen = settings(serve(), requests=20, concurrency=1, spend=spend)
    counts = synthesize(chosen, 1, quality, tokenizer, work, DECONTAMINATION)
    assert counts["ended"] == "spend" and counts["answers"] == counts["accepted"] == 5  # of 10 + 50 tokens each
    assert json.loads((work / "summary.json").read_text())["spent"] == spent


def test_an_unanswered_request_does_not_matter_where_the_tokens_are_reached(serve, quality, tokenizer, work):
    chosen = settings(serve(poisoned([])), requests=None, tokens=1500)
    counts = synthesize(chosen, 1, quality, tokenizer, work, DECONTAMINATION)
    assert counts["ended"] == "tokens" and counts["unanswered"] == 1 and counts["accepted_tokens"] >= 1500


def test_a_server_that_restarts_costs_no_request_its_tries(serve, quality, tokenizer, work):
    """Away for a second and a half: while nobody is there no try is used up."""

    def behave(handler, body, turn):
        if turn == 5:
            first.close()
            threading.Timer(1.5, lambda: serve(port=port)).start()
        answer_well(handler, body, turn)
        handler.close_connection = turn >= 5

    first = serve(behave)
    port = int(first.url.rsplit(":", 1)[1].removesuffix("/v1"))
    chosen = settings(first, requests=30, concurrency=3, attempts=9)
    counts = synthesize(chosen.model_copy(update={"first_wait": 0.05}), 1, quality, tokenizer, work, DECONTAMINATION)
    assert counts["accepted"] == 30 and counts["unanswered"] == 0


def test_a_server_that_never_answers(serve, quality, tokenizer, work):
    released = threading.Event()
    endpoint = serve(lambda handler, body, turn: released.wait(30))
    with pytest.raises(SnowError, match=r"3 requests failed for good, 100 % of those asked.*time-out.*keeps the 0 answers"):
        synthesize(settings(endpoint, requests=3, timeout=0.3, attempts=2), 1, quality, tokenizer, work, DECONTAMINATION)
    released.set()
    assert len(endpoint.asked) == 6


def test_a_quota_that_is_used_up_ends_the_run(serve, quality, tokenizer, work):
    """Refusals for lack of time cost no tries, but there is an end to them."""
    endpoint = serve(lambda handler, body, turn: handler.reply(429, b'{"error": {"message": "insufficient quota"}}'))
    with pytest.raises(SnowError, match=r"no answer from .*status 429 \(insufficient quota\).*tried 4 times"):
        synthesize(settings(endpoint, requests=20), 1, quality, tokenizer, work, DECONTAMINATION)
    assert len(endpoint.asked) < 20
