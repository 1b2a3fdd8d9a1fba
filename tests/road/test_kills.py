"""kill -9 at random moments of any arrow, and run again: the end is the same, to the byte."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from megatron_snow.artifacts.manifest import read_manifest
from megatron_snow.recipe.drive import open_road
from megatron_snow.recipe.stage import Road
from tests.convert import hub
from tests.road.conftest import FOLDERS, RECIPE
from tests.road.kills import Killer, content

KILLS = 3
# Stage -> the folders it stands on. A worker each: datatrove's and the tokenizer's processes have kill tests of their own.
STAGES = {
    "corpus": 0, "tokenizer": 1, "annotate": 2, "tokenize": 4, "train general": 5, "convert general": 6, "evaluate general": 7, "report": 8,
}  # fmt: skip


def killer(out: Path, seed: str) -> Killer:
    return Killer(RECIPE, out, random.Random(seed), ("corpus.workers=1", "tokenize.workers=1"))


@pytest.mark.parametrize("stage", STAGES)
def test_an_arrow_killed_three_times_ends_as_if_it_had_not_been(road, own_road, tmp_path, stage):
    given, _ = road
    out = own_road(*FOLDERS[: STAGES[stage] + 1])
    one = killer(out, stage)
    folder = one.road.folder(stage)
    guess = read_manifest(given / folder.relative_to(out)).seconds
    shutil.rmtree(folder)
    if stage == "report":  # it says where it lies: the run without kills is one in this folder
        guess = one.run([stage])
        shutil.copytree(folder, tmp_path / "given")
        shutil.rmtree(folder)
    one.kill_arrow(stage, KILLS, guess)
    assert content(folder) == content(tmp_path / "given" if stage == "report" else given / folder.relative_to(out))
    assert not list(out.rglob("*.building")) and not list(out.rglob("*.replaced")) and not list(out.rglob("*.tmp"))


def test_the_model_to_start_from_killed_three_times(tmp_path):
    """The arrow of recipes that begin with a Hugging Face model: the tiny road has none."""
    model = hub.tokenizer(hub.make(tmp_path / "hub" / "model", "qwen2, tied"))
    one = Killer(RECIPE, tmp_path / "out", random.Random("base"), (f"train.base.hugging_face={model}", "model=base", "tokenizer=base"))
    corpus = one.road.building(one.road.stages["corpus"]).open()
    (corpus.work / "none").touch()  # a given tokenizer reads no document
    corpus.publish()
    one.run(["tokenizer"])
    guess = one.run(["base"])
    folder = one.road.folder("base")
    shutil.copytree(folder, tmp_path / "given")
    shutil.rmtree(folder)
    one.kill_arrow("base", KILLS, guess)
    assert content(folder) == content(tmp_path / "given")
    assert not list(folder.parent.rglob("*.building")) and not list(folder.parent.rglob("*.replaced")) and not list(folder.parent.rglob("*.tmp"))


def test_answers_of_a_served_model_survive_kills_and_give_the_same_documents(road, own_road, tmp_path):
    """The journal of a killed run is never shorter than before; what it gives is what it would have given without the kills."""
    out = own_road(*FOLDERS[:3])
    one = killer(out, "synthesize")
    journal = (road[0] / "4-synthesize" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    work = one.road.building(one.road.stages["synthesize"]).open().work
    (work / "journal.jsonl").write_bytes(b"".join(journal[:-3]))  # of twelve answers three are left to ask for
    seconds, killed = read_manifest(road[0] / "4-synthesize").seconds / 3, 0
    while killed < KILLS:
        held = (work / "journal.jsonl").read_bytes() if work.exists() else b""
        if one.run(["synthesize"], one.random.uniform(0.02, seconds)) is None:
            killed += 1
            assert (work / "journal.jsonl").read_bytes().startswith(held[: held.rfind(b"\n") + 1])
        else:
            seconds /= 2
            shutil.rmtree(out / "4-synthesize")
            work = one.road.building(one.road.stages["synthesize"]).open().work
            (work / "journal.jsonl").write_bytes(b"".join(journal[:-3]))
    one.run(["synthesize"])
    answers = (out / "4-synthesize" / "journal.jsonl").read_bytes()
    assert answers.startswith(b"".join(journal[:-3])) and len(answers.splitlines()) == len(journal)

    again = Killer(RECIPE, tmp_path / "again", random.Random(0), one.overrides)
    for name in FOLDERS[:3]:
        shutil.copytree(out / name, again.out / name)
    work = again.road.building(again.road.stages["synthesize"]).open().work
    (work / "journal.jsonl").write_bytes(answers)
    again.run(["synthesize"])
    assert content(again.out / "4-synthesize") == content(out / "4-synthesize")


def unfinished(road: Road) -> str | None:
    """The first stage that is not done."""
    return next((name for name, status in road.statuses().items() if status.state != "done"), None)


@pytest.mark.soak
def test_a_hundred_kills_over_the_whole_road(road, tmp_path):
    """Whole runs struck at random moments until a hundred blows have landed; each time a road ends, it is the one that was never struck.

    All but the answers of the served model: a road gets the journal of the unstruck one, so that there is one set of answers. A blow falls within
    what the arrow at work took unstruck, and later with each blow it has had: every arrow is struck, and also on a busier machine the road comes to its end.
    """
    given, _ = road
    chance = random.Random(100)
    struck: Counter[str] = Counter()
    ended = 0
    while struck.total() < 100 or ended == 0:
        out = tmp_path / f"road{ended}" / "out"
        out.parent.mkdir()
        one = Killer(RECIPE, out, chance, ("corpus.workers=2", "tokenize.workers=2"))
        stages = list(one.road.stages)
        planted, before = False, struck.copy()
        while True:
            opened = open_road(RECIPE, one.overrides, out)[1]
            if not planted and opened.status("synthesize").state == "missing":
                work = opened.building(opened.stages["synthesize"]).open().work
                shutil.copy(given / "4-synthesize" / "journal.jsonl", work)
                planted = True
            until = stages if planted else stages[: stages.index("synthesize")]
            at_work = unfinished(opened)
            if at_work is None:
                break
            unstruck = 2.0 if at_work == "synthesize" else read_manifest(given / opened.stages[at_work].folder).seconds  # with all answers it asks nobody
            if one.run(until, chance.uniform(0.05, unstruck * (1 + (struck[at_work] - before[at_work]) / 4)) if struck.total() < 100 else None) is None:
                struck[unfinished(one.road) or "the end"] += 1
                print(f"kill {struck.total()}: {struck}", flush=True)
        for name in stages:
            folder = opened.folder(name)
            if name != "report":  # it shows times
                assert content(folder) == content(given / folder.relative_to(out)), name
        ended += 1
    print(json.dumps({"kills": struck, "roads": ended}))
