"""Labelling by a real server of the wire format."""

import json

import pytest

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.quality.jsonl import row_names, rows
from megatron_snow.quality.settings import LabelRows
from megatron_snow.synthesis.labels import label, points, question
from tests.synthesis.conftest import Endpoint, completion, document, settings


@pytest.fixture
def judge():
    """Gives a file as many points as its language's name has letters, five at most; says nothing of C."""

    def behave(handler, body, turn):
        content = body["messages"][0]["content"]
        language = content.split("is written in ", 1)[1].split(":", 1)[0]
        handler.reply(200, completion("I cannot say." if language == "C" else f"Fine. It could be 9.\n**Score:** {min(5, len(language))}"))

    endpoint = Endpoint(behave)
    yield endpoint
    endpoint.close()


def test_answers_become_rows_that_annotate_reads(quality, judge, tmp_path):
    tier = quality / "high_quality"
    found = label(settings(judge), 1, tier, 60, tmp_path / "labels.jsonl")
    assert found["files"] == 60 and found["labelled"] + found["labels"]["without a score"] == 60
    source = LabelRows(path=str(tmp_path / "labels.jsonl"), count=99, repository="repository", language="language")
    read = list(rows(source, -3, frozenset(row_names(source, -3))))
    texts = {d["text"]: d["language"] for d in read_documents(tier)}
    assert len(read) == found["labelled"] and all(texts[text] == language for _, text, _, language, _ in read)
    assert {(language, value) for *_, language, value in read} == {("Python", 1.0), ("Java", 0.8)}


def test_only_what_is_missing_is_asked(quality, judge, tmp_path):
    tier, target = quality / "high_quality", tmp_path / "labels.jsonl"
    label(settings(judge), 1, tier, 10, target)
    assert len(judge.asked) == 10
    label(settings(judge), 1, tier, 25, target)
    assert len(judge.asked) == 25
    before = target.read_bytes()
    label(settings(judge), 1, tier, 25, target)
    assert len(judge.asked) == 25 and target.read_bytes() == before


def test_a_model_that_gives_no_scores_is_told(quality, tmp_path):
    endpoint = Endpoint(lambda handler, body, turn: handler.reply(200, completion("Nice file!")))
    with pytest.raises(SnowError, match=r"none of 5 answers of teacher ends with a score"):
        label(settings(endpoint), 1, quality / "high_quality", 5, tmp_path / "labels.jsonl")
    endpoint.close()
    assert not (tmp_path / "labels.jsonl").exists()


@pytest.mark.parametrize(
    ("answer", "value"),
    [("Score: 3", 3.0), ("Score: 1\nNo: score = **4.5**", 4.5), ("Score: 0", 0.0), ("score 12", None), ("Score: 5.5", None), ("five", None), ("", None)],
)
def test_the_last_score_counts(answer, value):
    assert points(answer) == value


def test_a_long_file_is_shown_by_its_ends():
    (message,) = question(document(1, text="HEAD" + "x" * 100_000 + "TAIL"))
    assert len(message["content"]) < 8_000 and "HEAD" in message["content"] and "TAIL" in message["content"] and json.dumps(message)
