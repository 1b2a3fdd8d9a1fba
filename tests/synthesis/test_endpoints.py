"""The arrow against servers that behave and servers that do not."""

import json
import socket
import threading
import time

import pytest

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.settings import DecontaminationSettings
from megatron_snow.synthesis import SynthesizeSettings, synthesize
from megatron_snow.tokens import count_tokens
from tests.synthesis.conftest import DECONTAMINATION, MODEL, answer_slowly, answer_well, completion, document, good_answer, questions, settings


def test_documents_counts_and_summary(serve, quality, tokenizer, work):
    endpoint = serve()
    counts = synthesize(settings(endpoint), 1, quality, tokenizer, work, DECONTAMINATION)
    rows = list(read_documents(work / "synthetic"))
    assert counts["requests"] == counts["answers"] == counts["accepted"] == len(rows) == 20 and counts["ended"] == "requests" and counts["dropped"] == {}
    assert counts["accepted_tokens"] == sum(count_tokens(tokenizer, [row["text"] for row in rows])) != 20 * 50  # 50: what the server says
    assert [row["language"] for row in rows] == sorted(row["language"] for row in rows)
    assert sum(row["language"] == "Python" for row in rows) == 10
    seeds = {row["id"] for row in read_documents(quality / "high_quality")}
    for row in rows:
        assert row["id"].startswith("synthetic/") and row["seed_id"] in seeds and row["seed_id"].split("/")[-1].startswith(row["language"])
        assert (row["repository"], row["source"], row["license"]) == ("synthetic", "synthetic", "")
    assert len({row["id"] for row in rows}) == len({row["seed_id"] for row in rows}) == 20
    summary = json.loads((work / "summary.json").read_text())
    assert summary["languages"]["Python"]["asked"] == 10 and summary["languages"]["Python"]["bytes"] == sum(
        len(row["text"].encode()) for row in rows if row["language"] == "Python"
    )
    assert summary["prompt"]["sha256"] == counts["prompt_sha256"] and summary["seeds"]["drawn"] == 20


def test_what_is_sent(serve, quality, tokenizer, work, monkeypatch):
    monkeypatch.setenv("A_KEY", "hunter2")
    endpoint = serve()
    synthesize(
        settings(endpoint, requests=2, temperature=0.3, max_tokens=77, stop=["END"], frequency_penalty=0.5, api_key_env="A_KEY"),
        1,
        quality,
        tokenizer,
        work,
        DECONTAMINATION,
    )
    body = endpoint.asked[0]
    assert (body["model"], body["temperature"], body["top_p"], body["max_tokens"], body["stop"], body["frequency_penalty"]) == (
        MODEL,
        0.3,
        0.95,
        77,
        ["END"],
        0.5,
    )
    assert body["seed"] != endpoint.asked[1]["seed"] and endpoint.headers[0]["authorization"] == "Bearer hunter2"
    assert b"hunter2" not in b"".join(path.read_bytes() for path in work.rglob("*") if path.is_file())


def test_the_same_settings_and_answers_give_the_same_bytes(serve, quality, tokenizer, tmp_path):
    contents = []
    for concurrency in (1, 7):
        folder = tmp_path / f"run-{concurrency}"
        folder.mkdir()
        synthesize(settings(serve(), concurrency=concurrency), 1, quality, tokenizer, folder, DECONTAMINATION)
        contents.append([path.read_bytes() for path in (folder / "synthetic" / "00000.jsonl.zst", folder / "summary.json")])
    assert contents[0] == contents[1]


def test_the_number_in_flight_is_kept(serve, quality, tokenizer, work):
    """Ten are let in before any is answered, ten more before any of those, and never an eleventh."""
    rounds = [threading.Event() for _ in range(3)]
    met: list[bool] = []

    def behave(handler, body, turn):
        if turn % 10 == 9:
            rounds[turn // 10].set()
        met.append(rounds[turn // 10].wait(60))
        answer_well(handler, body, turn)

    endpoint = serve(behave)
    synthesize(settings(endpoint, requests=30, concurrency=10, timeout=90), 1, quality, tokenizer, work, DECONTAMINATION)
    assert endpoint.most_busy == 10 and met == [True] * 30


def test_a_slow_answer_holds_up_nobody(serve, quality, tokenizer, work):
    """The first answer comes only when all others have: with batches they would wait for it."""
    others = threading.Event()
    waited: list[bool] = []

    def behave(handler, body, turn):
        if turn == 0:
            waited.append(others.wait(20))
        if turn == 19:
            others.set()
        answer_well(handler, body, turn)

    synthesize(settings(serve(behave), requests=20, concurrency=2, timeout=60), 1, quality, tokenizer, work, DECONTAMINATION)
    assert waited == [True]


FAULTS = {
    "status 500": lambda handler, body: handler.reply(500, b"{}"),
    "status 503 with advice": lambda handler, body: handler.reply(503, b"", {"retry-after": "0.1"}),
    "status 429": lambda handler, body: handler.reply(429, b'{"error": {"message": "slow down"}}', {"retry-after": "0.05"}),
    "dropped connection": lambda handler, body: handler.connection.shutdown(socket.SHUT_RDWR),
    "half an answer": lambda handler, body: (
        handler.reply(200, completion(good_answer(body))[:100], promised=500),
        handler.connection.shutdown(socket.SHUT_RDWR),
    ),
    "not JSON": lambda handler, body: handler.reply(200, b"<html>gateway</html>"),
    "half JSON": lambda handler, body: handler.reply(200, completion(good_answer(body))[:80]),
    "plain text": lambda handler, body: handler.reply(200, b"hello", {"content-type": "text/plain"}),
    "no choices": lambda handler, body: handler.reply(200, completion("", choices=[])),
    "another shape": lambda handler, body: handler.reply(200, b'{"result": [1, 2]}'),
    "a list": lambda handler, body: handler.reply(200, b"[1, 2]"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_pass_are_ridden_out(serve, quality, tokenizer, work, fault):
    def behave(handler, body, turn):
        if turn % 3 == 1:
            FAULTS[fault](handler, body)
            handler.close_connection = True
        else:
            answer_well(handler, body, turn)

    endpoint = serve(behave)
    counts = synthesize(settings(endpoint, requests=9, attempts=8), 1, quality, tokenizer, work, DECONTAMINATION)
    assert counts["accepted"] == counts["answers"] == 9 and counts["unanswered"] == 0
    assert len(endpoint.asked) > 9 and len(set(questions(endpoint))) == 9


def test_a_time_out_is_asked_again(serve, quality, tokenizer, work):
    def behave(handler, body, turn):
        if turn == 0:
            time.sleep(4)
        answer_well(handler, body, turn)

    endpoint = serve(behave)
    assert synthesize(settings(endpoint, requests=3, timeout=2), 1, quality, tokenizer, work, DECONTAMINATION)["accepted"] == 3
    assert len(endpoint.asked) == 4


def test_a_refused_request_is_an_answer(serve, quality, tokenizer, work):
    def behave(handler, body, turn):
        if turn == 3:
            handler.reply(400, b'{"error": {"message": "longer than the context"}}')
        else:
            answer_well(handler, body, turn)

    endpoint = serve(behave)
    counts = synthesize(settings(endpoint, requests=6, concurrency=1), 1, quality, tokenizer, work, DECONTAMINATION)
    assert counts["dropped"] == {"refused by the server": 1} and counts["accepted"] == 5 and len(endpoint.asked) == 6
    assert "longer than the context" in (work / "summary.json").read_text()


def test_several_endpoints_share_the_work_and_one_may_be_down(serve, quality, tokenizer, work):
    good, bad = serve(answer_slowly), serve(lambda handler, body, turn: handler.reply(503, b""))
    counts = synthesize(settings(good, bad, requests=12), 1, quality, tokenizer, work, DECONTAMINATION)
    assert counts["accepted"] == 12 and len(good.asked) == 12 and len(bad.asked) >= 4


def test_reasons_are_counted_with_examples(serve, quality, tokenizer, work):
    def behave(handler, body, turn):
        kinds = ["no block", "```python\nx = 1\n```", good_answer(body), "Problem: something long enough to be one.\n```python\n" + "def f(:\n" * 40 + "```"]
        handler.reply(200, completion(kinds[turn % 4]))

    endpoint = serve(behave)
    counts = synthesize(settings(endpoint, requests=8, concurrency=1, python_share=1.0), 1, quality, tokenizer, work, DECONTAMINATION)
    assert counts["accepted"] == 2
    assert counts["dropped"] == {"no code block": 2, "no problem statement": 2, "does not parse": 2}
    summary = json.loads((work / "summary.json").read_text())
    assert summary["drops"]["does not parse"] == {"Python": 2} and "def f(:" in summary["examples"]["does not parse"][0]["snippet"]


def test_duplicates_but_for_white_space_are_dropped(serve, quality, tokenizer, work):
    def behave(handler, body, turn):
        code = "def add(left, right):\n" + " " * (turn + 1) + "return left + right" + "\n" * turn
        handler.reply(200, completion(f"Problem: Add two numbers, please, exactly.\n```python\n{code}\n# {'x' * 90}\n```"))

    counts = synthesize(settings(serve(behave), requests=5, python_share=1.0), 1, quality, tokenizer, work, DECONTAMINATION)
    assert counts["accepted"] == 1 and counts["dropped"] == {"duplicate": 4}


def test_no_document_at_all_is_an_error_with_the_reasons(serve, quality, tokenizer, work):
    endpoint = serve(lambda handler, body, turn: handler.reply(200, completion("I cannot help with that.")))
    with pytest.raises(SnowError, match=r"none of 5 answers became a document \(5 no code block\)"):
        synthesize(settings(endpoint, requests=5), 1, quality, tokenizer, work, DECONTAMINATION)


def answer_uncounted(handler, body, turn):
    handler.reply(200, completion(good_answer(body), usage=None))


@pytest.mark.parametrize("uncounted", [False, True])
def test_the_token_limit_ends_the_run(serve, quality, tokenizer, work, uncounted):
    """In tokens of the recipe's tokenizer, whatever the server counts."""
    endpoint = serve(answer_uncounted if uncounted else answer_slowly)
    counts = synthesize(settings(endpoint, requests=None, tokens=500, concurrency=2), 1, quality, tokenizer, work, DECONTAMINATION)
    sizes = count_tokens(tokenizer, [row["text"] for row in read_documents(work / "synthetic")])
    assert counts["ended"] == "tokens" and counts["accepted_tokens"] == sum(sizes) >= 500
    assert sum(sizes) - 2 * max(sizes) < 500  # no more than what was in flight when it was reached
    asked = len(endpoint.asked)
    assert synthesize(settings(endpoint, requests=None, tokens=500, concurrency=2), 1, quality, tokenizer, work, DECONTAMINATION) == counts
    assert len(endpoint.asked) == asked


def test_the_seeds_may_end_first(serve, quality, tokenizer, work, capsys):
    counts = synthesize(settings(serve(), requests=1000, concurrency=16), 1, quality, tokenizer, work, DECONTAMINATION)
    assert counts["requests"] == 80 and counts["ended"] == "seeds" and "the seeds ended after 80 requests" in capsys.readouterr().err


def test_decontamination_is_what_the_caller_gives(serve, quality, tokenizer, work, tmp_path):
    problem = "Write a program that computes the area of a rectangle"
    row = {"task_id": "HumanEval/0", "prompt": f'def f():\n    """{problem}"""\n', "canonical_solution": "    pass\n", "test": "", "entry_point": "f"}
    (tmp_path / "own.jsonl").write_text(json.dumps(row) + "\n")

    def behave(handler, body, turn):
        handler.reply(200, completion(good_answer(body).replace("compute the area of a rectangle", problem) if turn < 2 else good_answer(body)))

    own = DecontaminationSettings(humaneval=str(tmp_path / "own.jsonl"))
    counts = synthesize(settings(serve(behave), requests=5), 1, quality, tokenizer, work, own)
    assert counts["dropped"] == {"contaminated": 2} and counts["accepted"] == 3


def test_half_a_surrogate_pair_is_no_reason_to_fail(serve, quality, tokenizer, work):
    def behave(handler, body, turn):
        handler.reply(
            200,
            completion("Problem: print \ud83d, which is half a smile.\n```python\nprint('smile, please: '.upper())\n" + "# filler\n" * 20 + f"# {turn}\n```"),
        )

    assert (
        synthesize(
            settings(serve(behave), requests=3, python_share=1.0).model_copy(update={"near_duplicates": None}), 1, quality, tokenizer, work, DECONTAMINATION
        )["accepted"]
        == 3
    )


@pytest.mark.parametrize(
    ("status", "complaint"),
    [(401, "refused the key"), (403, "refused the key"), (404, f"no model '{MODEL}'"), (402, "status 402")],
)
def test_what_cannot_pass_ends_the_run_at_once(serve, quality, tokenizer, work, status, complaint):
    endpoint = serve(lambda handler, body, turn: handler.reply(status, b'{"error": {"message": "no"}}'))
    with pytest.raises(SnowError, match=complaint):
        synthesize(settings(endpoint), 1, quality, tokenizer, work, DECONTAMINATION)
    assert len(endpoint.asked) <= 4


def test_wrong_model_names_those_there_are(serve, quality, tokenizer, work):
    endpoint = serve()
    with pytest.raises(SnowError, match=rf"no model 'another'; it has {MODEL}"):
        synthesize(settings(endpoint, model="another"), 1, quality, tokenizer, work, DECONTAMINATION)
    assert endpoint.asked == []


def test_a_server_that_lists_no_models_is_taken_at_its_word(serve, quality, tokenizer, work):
    endpoint = serve()
    endpoint.models = None
    assert synthesize(settings(endpoint, requests=2), 1, quality, tokenizer, work, DECONTAMINATION)["accepted"] == 2


def test_something_else_than_a_model_server(serve, quality, tokenizer, work):
    endpoint = serve()
    endpoint.models = b'{"hello": "world"}'
    with pytest.raises(SnowError, match="not an OpenAI-compatible endpoint"):
        synthesize(settings(endpoint), 1, quality, tokenizer, work, DECONTAMINATION)


def test_nobody_there(quality, tokenizer, work):
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(SnowError, match=rf"no server answers at {url}.*vllm serve"):
        synthesize(SynthesizeSettings(endpoints=[url], model=MODEL, requests=3, attempts=2, first_wait=0.01), 1, quality, tokenizer, work, DECONTAMINATION)
    assert not (work / "synthetic").exists() and not (work / "summary.json").exists()


def test_a_server_that_goes_away_ends_the_run_and_the_next_goes_on(serve, quality, tokenizer, work):
    def behave(handler, body, turn):
        if turn == 9:
            endpoint.close()
        answer_well(handler, body, turn)
        handler.close_connection = turn >= 9

    endpoint = serve(behave)
    with pytest.raises(SnowError, match=r"no answer from http://127.0.0.1:\d+/v1 \(Cannot connect .*tried 4 times with growing waits; see to the server"):
        synthesize(settings(endpoint, concurrency=1), 1, quality, tokenizer, work, DECONTAMINATION)
    assert synthesize(settings(serve(), concurrency=1), 1, quality, tokenizer, work, DECONTAMINATION)["accepted"] == 20


def test_a_server_that_dies_for_good_ends_the_run_and_the_next_goes_on(serve, quality, tokenizer, work):
    def behave(handler, body, turn):
        if turn >= 10:
            handler.reply(500, b"{}")
        else:
            answer_well(handler, body, turn)

    endpoint = serve(behave)
    with pytest.raises(SnowError, match=r"10 requests failed for good, 50 %.*failed with: status 500"):
        synthesize(settings(endpoint), 1, quality, tokenizer, work, DECONTAMINATION)
    endpoint.behave, before = answer_well, len(endpoint.asked)
    assert synthesize(settings(endpoint), 1, quality, tokenizer, work, DECONTAMINATION)["accepted"] == 20
    assert len(endpoint.asked) - before == 10


def test_the_key_must_be_there(serve, quality, tokenizer, work, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(SnowError, match="NO_SUCH_KEY"):
        synthesize(settings(serve(), api_key_env="NO_SUCH_KEY"), 1, quality, tokenizer, work, DECONTAMINATION)


def test_a_finished_run_asks_nothing(serve, quality, tokenizer, work):
    endpoint = serve()
    first = synthesize(settings(endpoint), 1, quality, tokenizer, work, DECONTAMINATION)
    endpoint.close()
    threading.Event().wait(0.05)
    assert synthesize(settings(endpoint), 1, quality, tokenizer, work, DECONTAMINATION) == first


def test_no_seeds(quality, tokenizer, work, tmp_path):
    from megatron_snow.artifacts.documents import write_documents

    write_documents(tmp_path / "empty" / "high_quality", [document(0, text="x")])
    with pytest.raises(SnowError, match=r"gives no seed \(1 no usable lines\)"):
        synthesize(SynthesizeSettings(requests=1), 1, tmp_path / "empty", tokenizer, work, DECONTAMINATION)
    with pytest.raises(SnowError, match="no documents"):
        synthesize(SynthesizeSettings(requests=1), 1, tmp_path / "nothing", tokenizer, work, DECONTAMINATION)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"endpoints": [{"url": "http://x", "tokens_per_minute": 0}]}, "tokens_per_minute"), ({"spend": {"money": 1}}, "tokens have no price"),
        ({"endpoints": ["localhost:8000"]}, "write it like http://127.0.0.1:8000/v1"), ({"endpoints": []}, "no endpoint"),
        ({"tokens": None}, "neither tokens nor requests"), ({"tokens": "many"}, "number of tokens"), ({"python_share": 1.5}, "python_share"),
        ({"temperature": 3}, "temperature"), ({"concurrency": 0}, "concurrency"),
        ({"stop": ["a"] * 5}, "stop"), ({"local": {"model": "x", "slots": 0}}, "slots"), ({"promt": "file"}, "promt"),
    ],
)  # fmt: skip
def test_settings_out_of_range(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        SynthesizeSettings(**changes)
