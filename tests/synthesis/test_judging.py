"""Judges in processes of their own say what one in place says, and a dead one is named."""

import os
import signal

import pytest

from megatron_snow.artifacts.errors import SnowError
from megatron_snow.corpus.settings import DecontaminationSettings, NearDuplicateSettings, RedactionSettings
from megatron_snow.synthesis import synthesize
from megatron_snow.synthesis.journal import Answer
from megatron_snow.synthesis.judging import Brief, Judges
from tests.synthesis.conftest import DECONTAMINATION, settings


def submit(judges: Judges[int]) -> None:
    for i in range(100):
        judges.submit(i, Answer(id=str(i), content="no code", finish_reason="stop"), "Python")
        judges.finish()


def test_a_judge_that_is_killed_ends_the_run(tokenizer):
    brief = Brief(tokenizer, DecontaminationSettings(), RedactionSettings(), 10, NearDuplicateSettings())
    with Judges(brief, 1, lambda *_: None) as judges:
        os.kill(judges._members[0].process.pid, signal.SIGKILL)
        with pytest.raises(SnowError, match=r"judging process ended early \(exit code -9.*kept in the journal"):
            submit(judges)


def test_the_arrow_writes_the_same_with_judges_beside_it(serve, quality, tokenizer, tmp_path):
    contents = []
    for judges in (0, 1):
        work = tmp_path / f"work-{judges}"
        work.mkdir()
        synthesize(settings(serve(), requests=80, concurrency=40, judges=judges), 1, quality, tokenizer, work, DECONTAMINATION)
        contents.append([(work / name).read_bytes() for name in ("synthetic/00000.jsonl.zst", "summary.json", "diversity.json")])
    assert contents[0] == contents[1]
