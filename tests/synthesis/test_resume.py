"""kill -9 in the middle, run again: only what was in flight is asked twice."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.publish import Building, kept_folder
from megatron_snow.synthesis import SynthesizeSettings, synthesize
from tests.synthesis.conftest import DECONTAMINATION, MODEL, answer_slowly, answer_well, settings

PROGRAM = """
import sys
from pathlib import Path
from megatron_snow.corpus.settings import DecontaminationSettings
from megatron_snow.artifacts.publish import Building, kept_folder
from megatron_snow.synthesis import SynthesizeSettings, synthesize
synthesize(SynthesizeSettings.model_validate_json(sys.argv[1]), 1, *map(Path, sys.argv[2:]), DecontaminationSettings())
"""


def test_killed_at_random_and_finished(serve, quality, tokenizer, work):
    endpoint, moments = serve(answer_slowly), random.Random(6)
    chosen = {"endpoints": [endpoint.url], "model": MODEL, "requests": 60, "concurrency": 5}
    command = [sys.executable, "-c", PROGRAM, json.dumps(chosen), str(quality), str(tokenizer), str(work)]
    for answered in sorted(moments.sample(range(3, 50), 3)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        journal, deadline = work / "journal.jsonl", time.monotonic() + 60
        while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") >= answered):
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    endpoint.behave = answer_well
    counts = synthesize(SynthesizeSettings(**chosen), 1, quality, tokenizer, work, DECONTAMINATION)
    asked = Counter(body["messages"][-1]["content"] for body in endpoint.asked)
    assert counts["accepted"] == counts["answers"] == len(asked) == 60
    assert sum(times - 1 for times in asked.values()) <= 3 * 5
    lines = [json.loads(line) for line in (work / "journal.jsonl").read_text().splitlines()]
    assert len({line["id"] for line in lines}) == len(lines) == 60

    whole = work.with_name("whole")
    whole.mkdir()
    synthesize(SynthesizeSettings(**chosen), 1, quality, tokenizer, whole, DECONTAMINATION)
    assert list(read_documents(work / "synthetic")) == list(read_documents(whole / "synthetic"))


def test_another_sampling_prompt_or_seed_uses_no_old_answer(serve, quality, tokenizer, work):
    endpoint = serve()
    chosen = {"endpoints": [endpoint.url], "model": MODEL, "requests": 5, "concurrency": 2, "python_share": 1}
    synthesize(SynthesizeSettings(**chosen), 1, quality, tokenizer, work, DECONTAMINATION)
    own = work.with_name("own.txt")
    own.write_text("=== user\nAnother one.\n```python\n<<seed>>\n```\n")
    for changes, seed in (({"temperature": 0.1}, 1), ({"prompt": str(own)}, 1), ({"max_tokens": 99}, 1), ({}, 2)):
        before = len(endpoint.asked)
        synthesize(SynthesizeSettings(**(chosen | changes)), seed, quality, tokenizer, work, DECONTAMINATION)
        assert len(endpoint.asked) - before == 5, changes
    before = len(endpoint.asked)
    synthesize(SynthesizeSettings(**(chosen | {"concurrency": 4, "timeout": 50})), 1, quality, tokenizer, work, DECONTAMINATION)
    assert len(endpoint.asked) == before


def test_answers_of_the_artefact_that_is_replaced_are_used_again(serve, quality, tokenizer, tmp_path):
    """Another threshold redoes the arrow, not the questions; a failure is asked again."""
    endpoint = serve()
    published, building = tmp_path / "4-synthesize", tmp_path / "4-synthesize.building"
    for folder in (published, building):
        folder.mkdir()
    first = synthesize(settings(endpoint), 1, quality, tokenizer, published, DECONTAMINATION)
    lines = (published / "journal.jsonl").read_text().splitlines(keepends=True)
    failure = json.dumps({"id": json.loads(lines[0])["id"], "content": "status 500", "finish_reason": "failed"}) + "\n"
    (published / "journal.jsonl").write_text(failure + "".join(lines[1:]) + lines[1][:40])
    asked = len(endpoint.asked)
    again = synthesize(settings(endpoint, min_characters=101), 1, quality, tokenizer, building, DECONTAMINATION)
    assert len(endpoint.asked) == asked + 1 and again["answers"] == first["answers"] == 20
    other = tmp_path / "other.building"
    other.mkdir()
    synthesize(settings(endpoint), 1, quality, tokenizer, other, DECONTAMINATION)
    assert len(endpoint.asked) == asked + 21


def test_no_answer_goes_with_a_run_whose_settings_change(serve, quality, tokenizer, tmp_path):
    """A run is killed, its settings change, change again and change back: what was answered is never asked again."""
    endpoint, folder = serve(), tmp_path / "4-synthesize"

    def opened(chosen: SynthesizeSettings) -> Building:
        return Building(folder, "synthesize", 1, chosen.identity(), 1, {}, ("journal.jsonl",)).open()

    first = settings(endpoint)
    synthesize(first, 1, quality, tokenizer, opened(first).work, DECONTAMINATION)  # killed before it was published
    assert len(endpoint.asked) == 20
    asked = (folder.with_name("4-synthesize.building") / "journal.jsonl").read_bytes()
    warmer = settings(endpoint, temperature=1.5)
    synthesize(warmer, 1, quality, tokenizer, opened(warmer).work, DECONTAMINATION)
    assert len(endpoint.asked) == 40
    (aside,) = kept_folder(folder).iterdir()
    assert aside.name == "1-journal.jsonl" and aside.read_bytes() == asked  # of no use to other questions, and there
    stricter = settings(endpoint, min_characters=101)
    building = opened(stricter)
    assert synthesize(stricter, 1, quality, tokenizer, building.work, DECONTAMINATION)["answers"] == 20
    assert len(endpoint.asked) == 40
    assert [path.name for path in kept_folder(folder).iterdir()] == ["2-journal.jsonl"]  # the first's answers are all in the third's journal now
    building.publish()
    building = opened(warmer)
    synthesize(warmer, 1, quality, tokenizer, building.work, DECONTAMINATION)
    assert len(endpoint.asked) == 40 and not list(kept_folder(folder).iterdir())
    assert "journal.jsonl" in building.publish().files
