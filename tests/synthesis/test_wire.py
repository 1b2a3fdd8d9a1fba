"""The wire format without a wire."""

import email.utils
import json
import time

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.synthesis import wire
from megatron_snow.synthesis.endpoints import Bucket
from megatron_snow.synthesis.wire import PassingError, RefusedError, Request, Sampling

SAMPLING = Sampling("m", 0.5, 0.9, 0.0, 64, ("END",))


@pytest.mark.parametrize(("header", "seconds"), [("3", 3), ("0.5", 0.5), ("-1", 0), ("soon", 0), (None, 0), ("nan", 0), ("99999", 600), ("", 0)])
def test_retry_after_in_seconds(header, seconds):
    assert wire.asked_wait(header) == seconds


def test_retry_after_as_a_date():
    assert wire.asked_wait(email.utils.formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=3)
    assert wire.asked_wait(email.utils.formatdate(time.time() - 30, usegmt=True)) == 0


def test_questions_to_chat_and_to_go_on_from_a_text():
    chat, text = Request("a", [{"role": "user", "content": "hi"}], 7), Request("b", [], 7, prompt="def f(")
    assert (chat.path, text.path) == ("/chat/completions", "/completions")
    body = json.loads(wire.question(SAMPLING, chat))
    assert body["messages"] == chat.messages and body["stop"] == ["END"] and body["seed"] == 7 and "prompt" not in body and "frequency_penalty" not in body
    body = json.loads(wire.question(SAMPLING, text))
    assert body["prompt"] == "def f(" and "messages" not in body


def test_answers_of_both_kinds():
    chat = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    text = {"choices": [{"text": "x", "finish_reason": "length"}]}
    found = [wire.answer("id", json.dumps(reply).encode()) for reply in (chat, text)]
    assert [(one.content, one.finish_reason, one.prompt_tokens, one.completion_tokens) for one in found] == [("x", "stop", 1, 2), ("x", "length", None, None)]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [{"message": null, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]}', b'{"choices": [{"message": {"content": "x"}, "finish_reason": null}]}',
        b'{"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": "many"}}', b"\xff\xfe",
    ],
)  # fmt: skip
def test_what_is_no_completion_may_pass(data):
    with pytest.raises(PassingError, match="an answer that is"):
        wire.answer("id", data)


@pytest.mark.parametrize(
    ("status", "kind", "busy"),
    [(400, RefusedError, None), (413, RefusedError, None), (422, RefusedError, None), (401, SnowError, None), (404, SnowError, None), (302, SnowError, None),
     (408, PassingError, False), (429, PassingError, True), (500, PassingError, False), (503, PassingError, False), (529, PassingError, False)],
)  # fmt: skip
def test_what_a_status_means(status, kind, busy):
    for data in (b"", b'{"error": {"message": "why"}}', b'{"detail": "why"}', b'{"error": "why"}', b'"why"', b"<html>why"):
        error = wire.complaint(status, data, None, "http://x/v1", "m")
        assert type(error) is kind and (busy is None or error.busy is busy)
        assert ("why" in str(error)) == bool(data)
    assert wire.complaint(503, b"", "2", "u", "m").busy


def test_a_rate_is_kept_over_any_time():
    """Ten a second: never more than a second's worth ahead, whenever it is asked."""
    bucket, now, taken = Bucket(10.0, level=1.0), 100.0, 0
    for _ in range(1000):
        opens = bucket.opens(now)
        if opens <= now:
            bucket.take(1)
            taken += 1
        else:
            now = opens + 0.003
    assert taken <= (now - 100) * 10 + 11 and taken > (now - 100) * 10 * 0.9
