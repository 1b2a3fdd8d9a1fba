"""Lineage on a road that was really run: steps to repositories and back, and repositories taken down."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml

from megatron_snow.artifacts.documents import read_documents
from megatron_snow.artifacts.errors import SnowError
from megatron_snow.artifacts.manifest import read_manifest
from megatron_snow.cli.trace import trace as ask
from megatron_snow.corpus.dropped import NAME as DROPPED
from megatron_snow.corpus.dropped import read_dropped
from megatron_snow.recipe.drive import open_road
from megatron_snow.training.samples import phase_samples
from tests.road.conftest import FOLDERS, PHASES, RECIPE, run_snow, snow

TIERS = {"standard": "1-corpus/standard", "high_quality": "3-annotate/high_quality", "synthetic": "4-synthesize/synthetic", "heldout": "1-corpus/heldout"}


def trace(out, *arguments):
    return json.loads(snow("trace", RECIPE, "--out", out, "--json", *arguments).stdout)


@pytest.fixture(scope="module")
def steps(road):
    """Every step of every phase as ``snow trace`` tells it, taken from the modules for speed (one is asked from the command line below)."""
    from megatron_snow.lineage.step import trace_step
    from megatron_snow.recipe.artefacts import artefacts_of

    recipe, opened = open_road(RECIPE, [], road[0])
    artefacts = artefacts_of(recipe, opened)
    return {(phase, step): trace_step(artefacts, phase, step) for phase in PHASES for step in range(1, recipe.train.phases[phase].steps + 1)}


def test_a_step_names_every_token_it_read(road, steps):
    """Against the samples themselves: the files' tokens add up to the batch, each file is the row of its tier that it is said to be."""
    recipe, opened = open_road(RECIPE, [], road[0])
    rows = {(tier, document["id"]): document for tier, path in TIERS.items() for document in read_documents(road[0] / path)}
    for (phase, step), found in steps.items():
        settings = recipe.train.phases[phase]
        assert list(found["samples"]) == list(settings.samples_of(step - 1))
        assert sum(found["tokens"].values()) == len(found["samples"]) * (settings.sequence + 1)
        for record in found["files"]:
            document = rows[record["tier"], record["id"]]
            assert all(record[name] == document[name] for name in ("repository", "path", "language", "license", "source"))
            assert record["seed"] == document.get("seed_id") and (record["seed"] is None or found["seeds"][record["seed"]]["tier"] == "high_quality")
    settings = recipe.train.phases["general"]
    data = phase_samples("general", settings, opened.folder("tokenize"), recipe.seed)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(opened.folder("tokenizer") / "tokenizer.json"))
    sample, pieces = next(iter(steps["general", 1]["samples"].items()))
    read, inside = tokenizer.decode(data[sample][:40].tolist()), rows[pieces[0]["tier"], pieces[0]["id"]]
    assert any(part in inside["text"] for part in (read[-30:], read[5:25]))  # the text itself, not only its name


def test_a_repositorys_steps_are_those_that_name_it(road, steps):
    found = snow("trace", RECIPE, "--out", road[0], "--json", "--repo", "python/cpython/json", "--repo", "python/cpython/email").stdout.splitlines()
    for line in map(json.loads, found):
        names = set(line["repositories"])
        for phase in PHASES:
            for tier in TIERS:
                wanted, tokens = set(), Counter()
                for (of, step), one in steps.items():
                    for record in one["files"] if of == phase else []:
                        seed = one["seeds"].get(record["seed"])
                        if record["tier"] == tier and (record["repository"] in names or (seed is not None and seed["repository"] in names)):
                            wanted.add(step)
                            tokens[step] += one["tokens"][record["id"]]
                reads = line["phases"][phase].get(tier)
                told = {step for first, last in reads["runs"] for step in range(first, last + 1)} if reads else set()
                assert told == wanted, (phase, tier)
                if reads:  # labels at the end of samples are named by a step and not counted here
                    assert 0 <= sum(tokens.values()) - reads["tokens"] <= reads["samples"]
    assert line["states"] == dict.fromkeys(PHASES, "trained")


def test_the_command_tells_a_step_in_words(road):
    said = snow("trace", RECIPE, "--out", road[0], "--step", "2", "--phase", "enhanced").stdout
    assert "Step 2 of phase enhanced: 8 samples" in said and "synthetic/" in said and "seed" in said and "[synthetic/00000.jsonl.zst:" in said
    assert trace(road[0], "--step", "1")["phase"] == "general"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"step": 0}, "phase general has the steps 1 to 10"),
        ({"step": 11}, "phase general has the steps 1 to 10"),
        ({"step": 1, "phase": "fourth"}, "no phase 'fourth'; it has: general, continued, enhanced"),
        ({}, "either --step N"),
        ({"step": 1, "repo": ["a/b"]}, "either --step N"),
        ({"repo": ["a/b"], "phase": "general"}, "--phase goes with --step"),
    ],
)
def test_a_question_that_cannot_be_answered(road, arguments, complaint):
    with pytest.raises(SnowError, match=complaint):
        ask(RECIPE, out=road[0], **arguments)


def test_a_repositorys_dropped_files_are_told_with_the_rule(road):
    """Against the record of drops, for the repository of which most went; asked for in capitals."""
    rows = list(read_dropped(road[0] / "1-corpus" / DROPPED))
    chosen = Counter("/".join(row["id"].split("/")[1:4]) for row in rows if row["id"].startswith("stdlib/")).most_common(1)[0][0]
    theirs = [row for row in rows if row["id"].startswith(f"stdlib/{chosen}/")]
    found = trace(road[0], "--repo", chosen.upper())
    assert chosen.startswith("python/cpython/") and found["seen"] == [chosen.upper()]
    assert found["dropped"] == Counter(row["reason"] for row in theirs)
    assert [row["id"] for row in found["dropped_files"]] == [row["id"] for row in theirs]
    said = snow("trace", RECIPE, "--out", road[0], "--repo", chosen).stdout
    assert all(f"{reason} {count}" in said for reason, count in found["dropped"].items())


def test_an_unknown_repository(road):
    unknown = trace(road[0], "--repo", "no/such")
    assert unknown["tiers"] == {} and unknown["dropped"] == {} and unknown["seen"] == []
    said = snow("trace", RECIPE, "--out", road[0], "--repo", "no/such").stdout
    assert "no/such: it is not in: no file of it was read" in said


def test_taking_a_repository_down_rebuilds_the_tiers_without_it(road, own_road, tmp_path):
    """Foretold, done, and then gone from every tier; the phases that read it are stale."""
    out = own_road(*FOLDERS[:6])
    chosen = max(Counter(d["repository"] for d in read_documents(out / "3-annotate/high_quality")).items(), key=lambda item: item[1])[0]
    (tmp_path / "list.txt").write_text(f"{chosen}\nnever/seen\n")
    changes = json.loads(snow("takedown", RECIPE, "--out", out, "--list", tmp_path / "list.txt", "--json").stdout)
    before = {tier: [d["id"] for d in read_documents(out / path)] for tier, path in TIERS.items()}
    for tier in ("standard", "high_quality"):
        lost = [d["id"] for d in read_documents(out / TIERS[tier]) if d["repository"] == chosen]
        assert sorted(changes["tiers"][tier]["files"]) == sorted(lost) and lost
    assert changes["unknown"] == ["never/seen"] and changes["phases"]["general"]["standard"]["steps"] > 0
    assert list(changes["arrows"]) == list(open_road(RECIPE, [], out)[1].stages) and changes["arrows"]["corpus"] == "changed: input take-down list"
    words = snow("takedown", RECIPE, "--out", out, "--list", tmp_path / "list.txt").stdout
    assert "never seen: never/seen" in words and "Arrows that run again: corpus, tokenizer, annotate" in words

    recipe = tmp_path / "recipe.yaml"
    tree = yaml.safe_load(RECIPE.read_text())
    tree["corpus"]["take_down"] = str(tmp_path / "list.txt")
    recipe.write_text(yaml.safe_dump(tree))
    documents = read_manifest(out / "1-corpus").counts["documents"]
    for arrow in ("corpus", "tokenizer", "annotate"):
        said = snow(arrow, recipe, "--out", out).stderr
        if arrow == "corpus":
            assert f"documents {documents:,} -> " in said
    for tier in ("standard", "heldout", "high_quality"):
        rows = list(read_documents(out / TIERS[tier]))
        assert chosen not in {row["repository"] for row in rows}
        if tier == "standard":
            assert {row["id"] for row in rows} >= {name for name in before[tier] if name not in changes["tiers"][tier]["files"]} - set(before["heldout"])
    _, opened = open_road(recipe, [], out)
    assert opened.status("synthesize").state == "stale" and opened.status("train general").state == "waiting"
    refused = run_snow("trace", recipe, "--out", out, "--step", "1")
    assert refused.returncode == 2 and "was made of another corpus" in refused.stderr
