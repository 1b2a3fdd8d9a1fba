import gzip
import json

import pytest

from megatron_snow.artifacts import fixtures
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.fixtures import FIXTURES, fixture, resolve


def test_humaneval_has_its_164_problems():
    with gzip.open(fixture("HumanEval") / "HumanEval.jsonl.gz", "rt") as file:
        problems = [json.loads(line) for line in file]
    assert len(problems) == 164
    assert problems[0]["task_id"] == "HumanEval/0"


def test_resolve_leaves_other_names_alone():
    assert resolve("org/model") == "org/model"
    assert resolve("fixture:HumanEval") == str(fixture("HumanEval"))


def test_unknown_fixture_lists_the_known_ones():
    with pytest.raises(SnowError, match="all-MiniLM-L6-v2"):
        fixture("gpt-5")


def test_another_wheel_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SNOW_CACHE", str(tmp_path))
    altered = fixtures.Fixture(**(vars(FIXTURES["HumanEval"]) | {"sha256": "0" * 64}))
    monkeypatch.setitem(FIXTURES, "HumanEval", altered)
    with pytest.raises(SnowError, match="not used"):
        fixture("HumanEval")
    assert list((tmp_path / "fixtures").iterdir()) == []


def test_no_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("SNOW_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SnowError, match="name a local folder"):
        fixture("HumanEval")


def test_a_local_reference_changes_with_its_content(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text("one")
    before = fixtures.reference_fingerprint(str(path))
    path.write_text("another")
    assert fixtures.reference_fingerprint(str(path)) != before != ""
    assert fixtures.reference_fingerprint("fixture:HumanEval") == fixtures.reference_fingerprint("org/hub-name") == ""
